// Command sessions is two programs for a test: an MCP server over stdio that
// remembers what it was told, and an agent that tells it all that it is asked.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "server" {
		serve()
		return
	}
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(ask))
	fmt.Fprintln(os.Stderr, err)
}

// ask tells the server what this agent was asked, and answers with its words.
func ask(w http.ResponseWriter, r *http.Request) {
	input, _ := io.ReadAll(r.Body)
	text, _ := json.Marshal(string(input))
	resp, err := http.Post("http://127.0.0.1:3128/mcp/notes", "application/json",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"note","arguments":{"text":`+string(text)+`}}}`))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(w, resp.Body)
}

func serve() {
	var memory []string
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct{ Arguments struct{ Text string } }
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		answer := map[string]any{"jsonrpc": "2.0", "id": m.ID}
		switch m.Method {
		case "initialize":
			answer["result"] = map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "serverInfo": map[string]any{"name": "n", "version": "1"}}
		case "tools/list":
			answer["result"] = map[string]any{"tools": []any{map[string]any{"name": "note", "description": "Keeps a note.", "inputSchema": map[string]any{"type": "object"}}}}
		case "tools/call":
			memory = append(memory, m.Params.Arguments.Text)
			answer["result"] = map[string]any{"content": []any{map[string]any{"type": "text", "text": "kept: " + strings.Join(memory, ", ")}}}
		default:
			answer["error"] = map[string]any{"code": -32601, "message": "no such method"}
		}
		b, _ := json.Marshal(answer)
		fmt.Println(string(b))
	}
}
