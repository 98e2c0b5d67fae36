// Writer is the second of two agents: it keeps what the first one tells it, with a tool that runs in a sandbox of
// its own. It may not read files, and has no model: who writes to it cannot make it find out anything.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"omega/examples/internal/agent"
)

const maxRequest = 64 << 10

// manifest has the agent's card, which it serves as its author signed it.
//
//go:embed agent.json
var manifest []byte

func main() {
	var own struct {
		Card json.RawMessage `json:"card"`
	}
	if err := json.Unmarshal(manifest, &own); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	http.HandleFunc("GET /.well-known/agent-card.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(own.Card)
	})
	http.HandleFunc("POST /a2a", answer)
	fmt.Fprintln(os.Stderr, "error:", http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
	os.Exit(1)
}

// answer takes one message (A2A 0.3, message/send) and answers it with one.
func answer(w http.ResponseWriter, r *http.Request) {
	var call struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Message struct {
				Parts []struct {
					Text string `json:"text"`
				} `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	reply := map[string]any{"jsonrpc": "2.0"}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&call)
	reply["id"] = call.ID
	said := ""
	switch {
	case err != nil:
	case call.Method != "message/send":
		err = errors.New("only message/send is understood here")
	default:
		var text strings.Builder
		for _, p := range call.Params.Message.Parts {
			text.WriteString(p.Text)
		}
		said, err = keep(r.Context(), text.String())
	}
	if err != nil {
		fmt.Println("error:", err)
		reply["error"] = map[string]any{"code": -32603, "message": err.Error()} // JSON-RPC 2.0, section 5.1
	} else {
		reply["result"] = map[string]any{"kind": "message", "role": "agent", "messageId": "answer",
			"parts": []any{map[string]any{"kind": "text", "text": said}}}
	}
	w.Header().Set("Content-Type", "application/json")
	b, err := json.Marshal(reply)
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		fmt.Println("error:", err)
	}
}

func keep(ctx context.Context, text string) (_ string, err error) {
	tools, err := agent.Connect(ctx, os.Getenv("MCP_SERVERS"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	arguments, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return "", err
	}
	said, err := tools.Call(ctx, "notebook__keep", arguments)
	return text + " (" + said + ")", err
}
