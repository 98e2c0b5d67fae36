// Researcher is the first of two agents that work for a caller: it finds out what the brief asks for, and has
// the writer keep it. It may read files and ask a model; it may not write anything.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/openai/openai-go/v3"

	"omega/examples/internal/agent"
)

const (
	system     = "You are a reporter. Use the tools you are given."
	maxRequest = 64 << 10
	patience   = 2 * time.Minute
)

func main() {
	http.HandleFunc("POST /", answer)
	http.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	fmt.Fprintln(os.Stderr, "error:", http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
	os.Exit(1)
}

func answer(w http.ResponseWriter, r *http.Request) {
	task, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	found, err := research(ctx, string(task))
	if err == nil {
		found, err = send(ctx, os.Getenv("A2A_WRITER_URL"), found)
	}
	if err != nil {
		fmt.Println("error:", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprint(w, found)
}

func research(ctx context.Context, task string) (_ string, err error) {
	tools, err := agent.Connect(ctx, os.Getenv("MCP_SERVERS"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	one := &agent.Agent{Model: os.Getenv("AGENT_MODEL"), System: system, Task: task, Out: os.Stdout}
	return one.Run(ctx, openai.NewClient(), tools)
}

// The parts of A2A 0.3 that two agents need to say one thing and answer it.
type (
	part struct {
		Kind string `json:"kind"`
		Text string `json:"text"`
	}
	message struct {
		Kind  string `json:"kind"`
		Role  string `json:"role"`
		ID    string `json:"messageId"`
		Parts []part `json:"parts"`
	}
	params struct {
		Message message `json:"message"`
	}
	call struct {
		Version string `json:"jsonrpc"`
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  params `json:"params"`
	}
	reply struct {
		Result message `json:"result"`
		Error  *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
)

// send has a peer read a text, and returns what it says.
func send(ctx context.Context, url, text string) (string, error) {
	body, err := json.Marshal(call{"2.0", 1, "message/send", params{message{
		Kind: "message", Role: "user", ID: fmt.Sprint(time.Now().UnixNano()), Parts: []part{{"text", text}},
	}}})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var got reply
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&got); err != nil {
		return "", fmt.Errorf("answer of the peer, %s: %w", resp.Status, err)
	}
	if got.Error != nil {
		return "", fmt.Errorf("the peer: %s", got.Error.Message)
	}
	said := ""
	for _, p := range got.Result.Parts {
		said += p.Text
	}
	return said, nil
}
