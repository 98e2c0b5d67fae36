package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/openai/openai-go/v3"
)

// Main runs an agent with what its environment says, prints the answer, and
// returns the exit code of the program.
func Main(system, task string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, system, task, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// run is Main without the process. AGENT_WEIGHTS is a model file of its own that
// it looks at first; AGENT_STAY keeps it there once its task is done. OPENAI_BASE_URL and OPENAI_API_KEY are read
// by the OpenAI client itself.
func run(ctx context.Context, system, task string, getenv func(string) string, out io.Writer) (err error) {
	if path := getenv("AGENT_WEIGHTS"); path != "" {
		weights, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("weights: %w", err)
		}
		fmt.Fprintf(out, "weights: %d bytes of %s\n", len(weights), path)
	}
	tools, err := Connect(ctx, getenv("MCP_SERVERS"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()

	agent := &Agent{Model: getenv("AGENT_MODEL"), System: system, Task: task, Out: out}
	answer, err := agent.Run(ctx, openai.NewClient(), tools)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "done:", answer)
	if getenv("AGENT_STAY") != "" {
		<-ctx.Done() // until it is stopped
	}
	return nil
}
