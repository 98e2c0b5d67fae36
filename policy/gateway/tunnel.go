package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"omega/policy"
)

// tunnelIdle is how long a tunnel may stay silent.
const tunnelIdle = 5 * time.Minute

// serveConnect is a client's wish for a tunnel. TLS in it is opened with the
// sandbox's own authority, and each request in it is decided; only where the
// policy names a site for opaque tunnels does it pass unread.
func (l *link) serveConnect(w http.ResponseWriter, r *http.Request) {
	what := clip("CONNECT "+r.Host, 300)
	to, err := parseSite("https", r.Host)
	if err != nil {
		l.refuseWeb(w, r, what, err.Error())
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	if group, ok := l.web(to, policy.ActionConnect); ok && group.Opaque {
		l.opaque(w, r, group, to)
		return
	}
	if _, ok := l.web(to, policy.ActionHTTP); !ok {
		l.refuseWeb(w, r, what, "the policy does not let this agent ask "+to.String()+l.webHint())
		return
	}
	w.WriteHeader(http.StatusOK)
	if control.Flush() != nil {
		return
	}
	near, far := net.Pipe()
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(far, r.Body); _ = far.Close() })
	copying.Go(func() { _, _ = io.Copy(flusher{w, control}, far); _ = far.Close(); _ = r.Body.Close() })
	l.open(r.Context(), near, to)
	_ = near.Close()
	copying.Wait()
}

// flusher writes at once.
type flusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// open serves the requests in a tunnel: TLS under the sandbox's authority, or
// plain where the client begins so.
func (l *link) open(ctx context.Context, conn net.Conn, to site) {
	first := make([]byte, 1)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime))
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	conn = &begun{Conn: conn, first: first}
	if first[0] == 0x16 { // a TLS handshake record (RFC 8446 section 5.1)
		secure := tls.Server(conn, l.authority.config(to.host))
		hello, cancel := context.WithTimeout(ctx, dialTime)
		err := secure.HandshakeContext(hello)
		cancel()
		if err != nil {
			l.g.cfg.Log.Debug("tunnel", "agent", l.agent.Instance, "error", err)
			return
		}
		conn = secure
	} else {
		to.scheme = "http"
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner, err := parseSite(to.scheme, r.Host)
			if err != nil || inner != to || r.URL.IsAbs() || r.Method == http.MethodConnect {
				l.refuseWeb(w, r, clip(r.Method+" "+r.Host, 300), "the request in the tunnel is for another site than the tunnel")
				return
			}
			ctx, tab := l.holding(l.traced(r.Context(), r.Header))
			defer tab.close()
			l.serveWeb(w, r.WithContext(ctx), to)
		}),
		MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: bodyTime, ReadTimeout: 2 * bodyTime, IdleTimeout: tunnelIdle,
		WriteTimeout: 2 * l.g.cfg.Timeout,
		ErrorLog:     slog.NewLogLogger(l.g.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:  func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	_ = srv.Serve(newOnce(conn))
	_ = srv.Close()
}

// begun gives back the byte that was looked at.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// opaque passes a tunnel unread: a sink that the policy names.
func (l *link) opaque(w http.ResponseWriter, r *http.Request, group policy.Web, to site) {
	args := fmt.Appendf(nil, `{"host":%q,"port":%d}`, to.host, to.port)
	d, in, err := l.authorize(r.Context(), policy.ActionConnect, group.Name, args)
	if err != nil {
		l.unrecorded(w, err)
		return
	}
	if in == nil {
		replyError(w, http.StatusForbidden, "policy_denied", denial("A tunnel to "+to.String(), d.Reasons))
		return
	}
	in.heard(policy.Outcome{}) // whatever comes back, before its first byte does
	far, err := l.g.dial(r.Context(), group.Private, to.String())
	if err != nil {
		if rec := in.outcome(r.Context(), failed("error", err.Error())); rec != nil {
			l.unrecorded(w, rec)
			return
		}
		replyError(w, http.StatusBadGateway, "upstream_error", to.String()+" did not answer: "+outward(err)+".")
		return
	}
	w.WriteHeader(http.StatusOK)
	size, err := l.pump(r, flusher{w, http.NewResponseController(w)}, far, in)
	res := result{Status: "ok", Bytes: int(size)}
	if errors.Is(err, errBudget) {
		res.Status = "refused"
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		res.Error = clip(err.Error(), 200)
	}
	if err := in.outcome(r.Context(), res); err != nil {
		l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
	}
}

// pump copies both ways until a side ends, both are silent for too long, or the
// budget of bytes is used up.
func (l *link) pump(r *http.Request, near io.Writer, far net.Conn, in *intent) (int64, error) {
	var size atomic.Int64
	var cut atomic.Bool
	idle := time.AfterFunc(tunnelIdle, func() { _ = far.Close() })
	defer idle.Stop()
	stop := context.AfterFunc(r.Context(), func() { _ = far.Close() })
	defer stop()
	count := func(w io.Writer) io.Writer {
		return writerFunc(func(b []byte) (int, error) {
			idle.Reset(tunnelIdle)
			if err := in.flowed(len(b)); err != nil {
				cut.Store(true)
				return 0, err
			}
			size.Add(int64(len(b)))
			return w.Write(b)
		})
	}
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(count(far), r.Body); _ = far.Close() })
	_, err := near.Write(nil)
	if err == nil {
		_, err = io.Copy(count(near), far)
	}
	_ = far.Close()
	_ = r.Body.Close()
	copying.Wait()
	if cut.Load() {
		err = errBudget
	}
	return size.Load(), err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
