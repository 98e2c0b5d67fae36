// Package agent is a small, ordinary tool-using agent: it asks a language
// model over the OpenAI API what to do next, calls MCP tools for it, and feeds
// every result back, until the model has nothing more to call.
//
// It knows nothing of Omega: where the model and the tools are comes from
// environment variables alone, and a refused tool call is just one more result
// for the model to read.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"
)

// maxTurns bounds how often one task may go back to the model.
const maxTurns = 16

// ErrTurns reports a model that never came to an end.
var ErrTurns = errors.New("model asked for more turns than an agent may take")

// An Agent is one task with the model and the tools to do it.
type Agent struct {
	// Model names the language model.
	Model string
	// System and Task are the first two messages of the conversation.
	System, Task string
	// Out receives one line for each step.
	Out io.Writer
}

// Run works on the task until the model answers without a tool call, and
// returns that answer. The client takes its address from OPENAI_BASE_URL.
func (a *Agent) Run(ctx context.Context, client openai.Client, tools *Toolbox) (string, error) {
	request := openai.ChatCompletionNewParams{
		Model: a.Model,
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage(a.System),
			openai.UserMessage(a.Task),
		},
		Tools: functions(tools),
	}
	for range maxTurns {
		completion, err := client.Chat.Completions.New(ctx, request)
		if err != nil {
			return "", fmt.Errorf("asking model %s: %w", a.Model, err)
		}
		if len(completion.Choices) == 0 {
			return "", fmt.Errorf("asking model %s: answer without a choice", a.Model)
		}
		message := completion.Choices[0].Message
		if len(message.ToolCalls) == 0 {
			return message.Content, nil
		}
		request.Messages = append(request.Messages, message.ToParam())
		for _, call := range message.ToolCalls {
			result := a.call(ctx, tools, call.Function.Name, call.Function.Arguments)
			request.Messages = append(request.Messages, openai.ToolMessage(result, call.ID))
		}
	}
	return "", ErrTurns
}

// call runs one tool call of the model. Whatever goes wrong becomes text for
// the model, so that it can choose another way.
func (a *Agent) call(ctx context.Context, tools *Toolbox, name, arguments string) string {
	fmt.Fprintf(a.Out, "call %s %s\n", name, arguments)
	text, err := tools.Call(ctx, name, json.RawMessage(arguments))
	if err != nil {
		fmt.Fprintf(a.Out, "refused: %v\n", err)
		return "error: " + err.Error()
	}
	fmt.Fprintf(a.Out, "result: %d bytes\n", len(text))
	return text
}

// functions offers every tool to the model as a function tool.
func functions(tools *Toolbox) []openai.ChatCompletionToolUnionParam {
	var offered []openai.ChatCompletionToolUnionParam
	for _, tool := range tools.Tools() {
		offered = append(offered, openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name:        tool.Function,
			Description: openai.String(tool.Description),
			Parameters:  tool.Parameters,
		}))
	}
	return offered
}
