package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"omega/policy/provenance"
)

func TestAnAgentCannotKeepItsEndOutOfTheLog(t *testing.T) {
	var lines []string
	for range 64 {
		lines = append(lines, strings.Repeat("\x00\xff", 256))
	}
	result, err := exitResult(137, lines)
	if err != nil {
		t.Fatal(err)
	}
	e := provenance.Entry{Kind: provenance.KindExit, Time: time.Unix(1700000000, 0), Agent: "a", Result: result}
	if _, err := e.Encode(); err != nil {
		t.Errorf("the log refuses the exit entry: %v", err)
	}
	var got struct {
		Code  int      `json:"code"`
		Lines []string `json:"last_lines"`
	}
	if err := json.Unmarshal(result, &got); err != nil || got.Code != 137 || len(got.Lines) == 0 {
		t.Errorf("result = %+v, %v; want the code and the last lines", got, err)
	}
}

func TestClipKeepsWholeCharacters(t *testing.T) {
	for n := range 8 {
		if s := clip("aäöü€", n); len(s) > n || !utf8.ValidString(s) {
			t.Errorf("clip to %d bytes = %q", n, s)
		}
	}
}
