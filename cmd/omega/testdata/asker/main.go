// Command asker is an agent for a test: it hands what it is asked to its model and
// answers with what the model's interface said, or with what it finds in its own
// sandbox.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(answer))
	fmt.Fprintln(os.Stderr, err)
}

func answer(w http.ResponseWriter, r *http.Request) {
	input, _ := io.ReadAll(r.Body)
	if string(input) == "files" {
		models, _ := os.ReadDir("/models")
		adapters, _ := os.ReadDir("/adapters")
		fmt.Fprintf(w, "%d models, %d adapters", len(models), len(adapters))
		return
	}
	text, _ := json.Marshal(string(input))
	resp, err := http.Post(os.Getenv("OPENAI_BASE_URL")+"/chat/completions", "application/json",
		strings.NewReader(`{"model":"tiny","max_tokens":16,"temperature":0,"messages":[{"role":"user","content":`+string(text)+`}]}`))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(w, resp.Body)
}
