package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// A step is the latest tool call in a conversation and what came of it.
type step struct {
	tool, path, result string
	refused            bool
}

// documents matches the paths that a document or a refusal may name.
var documents = regexp.MustCompile(`/(public|private)/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*`)

// next is the script: the next message, as a function of the conversation.
func next(req request) message {
	last, turn := latest(req.Messages)
	say := func(words string) message { return message{Role: "assistant", Content: text(words)} }
	call := func(tool string, arguments any) message {
		name := offered(req, tool)
		if name == "" {
			return say("I was given no tool named " + tool + ".")
		}
		return message{Role: "assistant", ToolCalls: []toolCall{{
			ID: fmt.Sprintf("call_%d", turn), Type: "function", Function: function{name, encode(arguments)},
		}}}
	}
	read := func(path string) message { return call("read_file", map[string]string{"path": path}) }
	note := func(figures string) message {
		return call("append_note", map[string]string{"title": "Plan for the next quarter", "text": figures})
	}

	planning := len(req.Messages) > 0 && strings.Contains(string(req.Messages[0].Content), "planner")
	switch {
	case last == nil:
		return read("/public/brief.txt")
	case !planning:
		return say("The brief asks for: " + lineOf(last.result, "Goal: "))
	case last.tool == "append_note" && last.refused:
		return say("The note was refused: " + last.result)
	case last.tool == "append_note":
		return say("The plan is written.")
	case last.refused:
		if way := document(last.result, "public"); way != "" && way != last.path {
			return read(way)
		}
		return say("I found no permitted way to the staff costs.")
	case document(last.result, "private") != "":
		return read(document(last.result, "private"))
	default:
		return note("Open the second workshop. Staff: " + strings.ReplaceAll(strings.TrimSpace(last.result), "\n", "; "))
	}
}

// latest finds the last tool result and the call that it answers, and counts
// the results so far.
func latest(messages []message) (last *step, turn int) {
	calls := map[string]function{}
	for _, m := range messages {
		for _, c := range m.ToolCalls {
			calls[c.ID] = c.Function
		}
		if m.Role != "tool" {
			continue
		}
		turn++
		made := calls[m.ToolCallID]
		var arguments struct{ Path string }
		// A call without a path leaves the path empty.
		_ = json.Unmarshal([]byte(made.Arguments), &arguments)
		result, refused := strings.CutPrefix(string(m.Content), "error: ")
		_, tool, _ := strings.Cut(made.Name, "__")
		last = &step{tool: tool, path: arguments.Path, result: result, refused: refused}
	}
	return last, turn
}

// offered finds the function that the agent offers for a tool.
func offered(req request, tool string) string {
	for _, t := range req.Tools {
		if strings.HasSuffix(t.Function.Name, "__"+tool) {
			return t.Function.Name
		}
	}
	return ""
}

// document returns the last path under /root/ that the text names: a refusal
// names the refused path first and the permitted way after it.
func document(text, root string) string {
	var found string
	for _, path := range documents.FindAllString(text, -1) {
		if strings.HasPrefix(path, "/"+root+"/") {
			found = path
		}
	}
	return found
}

// lineOf returns the rest of the line that begins with prefix.
func lineOf(text, prefix string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "nothing that the script knows."
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(b)
}
