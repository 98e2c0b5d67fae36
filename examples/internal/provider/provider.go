// Package provider serves one MCP server over HTTPS as an independent tool
// provider would: with its own certificate, and with its own record of every
// tool call that reached it.
//
// It has no access control: what an agent may ask is the business of whoever
// runs the agent, and the record shows what really arrived.
package provider

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Call is one line of the record: a tool call that reached the provider.
type Call struct {
	Time      time.Time       `json:"time"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
}

// Main is the command line of a provider: it serves until it is interrupted,
// or prints the server's tool descriptors and ends.
func Main(server *mcp.Server, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, server, args, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, server *mcp.Server, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("provider", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	cert := flags.String("cert", "", "PEM certificate chain")
	key := flags.String("key", "", "PEM private key")
	calls := flags.String("calls", "", "file that receives one JSON line for each tool call")
	descriptors := flags.Bool("descriptors", false, "print the tool descriptors and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *descriptors {
		return printDescriptors(ctx, server, stdout)
	}
	if *calls != "" {
		f, err := os.OpenFile(*calls, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		server.AddReceivingMiddleware(record(f))
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "listening", listener.Addr())
	return Serve(ctx, listener, Handler(server), *cert, *key)
}

// Handler serves MCP over streamable HTTP at every path.
func Handler(server *mcp.Server) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless:    true, // the model of MCP 2026-07-28
		JSONResponse: true,
		// A page in a browser cannot reach this server by rebinding a name:
		// the certificate names the provider, not localhost.
		DisableLocalhostProtection: true,
	})
}

// Serve answers HTTPS on the listener until ctx ends.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, cert, key string) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ServeTLS(listener, cert, key); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// record appends each tool call to w before the tool runs.
func record(w io.Writer) mcp.Middleware {
	var mu sync.Mutex
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if call, ok := req.GetParams().(*mcp.CallToolParamsRaw); ok {
				line, err := json.Marshal(Call{Time: time.Now().UTC(), Tool: call.Name, Arguments: call.Arguments})
				if err != nil {
					return nil, err
				}
				mu.Lock()
				_, err = w.Write(append(line, '\n'))
				mu.Unlock()
				if err != nil {
					return nil, err
				}
			}
			return next(ctx, method, req)
		}
	}
}
