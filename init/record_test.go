package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"omega/internal/wire"
	"omega/policy/provenance"
)

// TestWhatAnAgentWritesReachesTheLogWhole holds the channel between gateway and
// log to what the gateway lets an agent say: 40 KiB of input, nested 31 deep.
func TestWhatAnAgentWritesReachesTheLogWhole(t *testing.T) {
	a, b, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := wire.NewConn(a)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := wire.NewConn(b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	arrived := make(chan appendRequest, 1)
	go func() {
		_ = wire.Serve(ctx, theirs, map[string]wire.Handler{opAppend: handle(func(_ context.Context, req appendRequest) (appendReply, error) {
			arrived <- req
			_, err := req.Entry.Encode()
			return appendReply{}, err
		})})
	}()
	client := wire.NewClient(ours)
	defer client.Close()
	for name, args := range map[string]string{
		"deep":        `{"a":` + strings.Repeat("[", 29) + strings.Repeat("]", 29) + `}`,
		"markup":      `{"a":"` + strings.Repeat("<&>", 13<<10) + `"}`,
		"separators":  `{"a":"` + strings.Repeat("\u2028", 6<<10) + `"}`,
		"plain bytes": `{"a":"` + strings.Repeat("x", 40<<10) + `"}`,
	} {
		e := provenance.Entry{Kind: provenance.KindIntent, Time: time.Unix(1700000000, 0), Agent: "a", Action: "mcp.tools/call",
			Decision: provenance.Deny, Input: json.RawMessage(`{"args":` + args + `}`)}
		want, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for how, record := range map[string]func() (uint64, error){
			"waited for": func() (uint64, error) { return (recorder{client}).Record(ctx, e) },
			"submitted": func() (uint64, error) {
				wait, err := (recorder{client}).Submit(ctx, e)
				if err != nil {
					return 0, err
				}
				return wait()
			},
		} {
			if _, err := record(); err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
				continue
			}
			got := <-arrived
			if read, err := got.Entry.Encode(); err != nil || string(read) != string(want) || got.Lazy != (how == "submitted") {
				t.Errorf("%s, %s: another entry arrived (%v)", name, how, err)
			}
		}
	}
}
