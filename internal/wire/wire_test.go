package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

type echo struct {
	Text string `json:"text"`
	Blob []byte `json:"blob,omitempty"`
}

// ends returns both connections of a fresh pair.
func ends(t *testing.T) (a, b *Conn) {
	t.Helper()
	fa, fb, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewConn(fa); err != nil {
		t.Fatal(err)
	}
	if b, err = NewConn(fb); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// serve runs handlers on one end and returns a client on the other.
func serve(t *testing.T, handlers map[string]Handler) *Client {
	t.Helper()
	a, b := ends(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, b, handlers) }()
	cl := NewClient(a)
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("Serve did not end")
		}
		cl.Close()
	})
	return cl
}

func echoHandler(_ context.Context, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
	e, err := Body[echo](body)
	return e, nil, err
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCallBringsBodiesOfAnySizeThereAndBack(t *testing.T) {
	cl := serve(t, map[string]Handler{"echo": echoHandler})
	for _, n := range []int{0, 1, maxPacket - 1, maxPacket, maxPacket + 1, 700 << 10} {
		want := echo{Text: "x", Blob: bytes.Repeat([]byte{7}, n)}
		var got echo
		if _, err := cl.Call(within(t), "echo", want, &got); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got.Blob, want.Blob) {
			t.Errorf("%d bytes came back as %d", n, len(got.Blob))
		}
	}
}

func TestForeignJSONInABodyDoesNotEndTheConnection(t *testing.T) {
	type wrap struct {
		Entry struct {
			Input json.RawMessage `json:"input"`
		} `json:"entry"`
	}
	cl := serve(t, map[string]Handler{"echo": func(_ context.Context, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
		w, err := Body[wrap](body)
		return w, nil, err
	}})
	// As deep as strictjson takes it from an agent.
	deep := json.RawMessage(strings.Repeat("[", 32) + strings.Repeat("]", 32))
	var want, got wrap
	want.Entry.Input = deep
	if _, err := cl.Call(within(t), "echo", want, &got); err != nil || string(got.Entry.Input) != string(deep) {
		t.Errorf("deep JSON came back as %s, %v", got.Entry.Input, err)
	}
	if _, err := cl.Call(within(t), "echo", wrap{}, nil); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
}

func TestJSONThatThePeerWouldRefuseCostsOneCallOnly(t *testing.T) {
	bad := map[string]json.RawMessage{
		"a key twice":      json.RawMessage(`{"text":"a","text":"b"}`),
		"a lone surrogate": json.RawMessage(`{"text":"\ud800"}`),
		"not UTF-8":        json.RawMessage("{\"text\":\"\xff\"}"),
		"too deep":         json.RawMessage(strings.Repeat("[", 80) + strings.Repeat("]", 80)),
	}
	for name, body := range bad {
		t.Run(name, func(t *testing.T) {
			cl := serve(t, map[string]Handler{
				"echo": echoHandler,
				"bad":  func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) { return body, nil, nil },
			})
			if _, err := cl.Call(within(t), "echo", body, nil); err == nil {
				t.Error("the request was sent")
			}
			if _, err := cl.Call(within(t), "bad", nil, new(json.RawMessage)); err == nil {
				t.Error("the answer was sent")
			}
			var got echo
			if _, err := cl.Call(within(t), "echo", echo{Text: "still here"}, &got); err != nil || got.Text != "still here" {
				t.Errorf("after that: %q, %v", got.Text, err)
			}
		})
	}
}

func TestCallRefusesWhatIsTooLargeAndGoesOn(t *testing.T) {
	cl := serve(t, map[string]Handler{
		"echo": echoHandler,
		"big": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return echo{Blob: make([]byte, MaxMessage)}, nil, nil
		},
	})
	var got echo
	if _, err := cl.Call(within(t), "echo", echo{Blob: make([]byte, MaxMessage)}, &got); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large request: %v", err)
	}
	if _, err := cl.Call(within(t), "big", nil, &got); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("large answer: %v", err)
	}
	if _, err := cl.Call(within(t), "echo", echo{Text: "still here"}, &got); err != nil || got.Text != "still here" {
		t.Errorf("after that: %q, %v", got.Text, err)
	}
}

func TestCallReportsTheHandlersError(t *testing.T) {
	cl := serve(t, map[string]Handler{
		"no": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, errors.New("not today")
		},
		"mute": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, errors.New("")
		},
		"empty": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) { return nil, nil, nil },
		"echo":  echoHandler,
	})
	var got echo
	tests := []struct {
		name, op string
		req      any
		want     string
	}{
		{"an error has its words", "no", nil, "no: not today"},
		{"an empty error is still one", "mute", nil, "unnamed error"},
		{"an unknown operation", "what", nil, "unknown operation"},
		{"a body with an unknown field", "echo", map[string]int{"texts": 1}, "unknown field"},
		{"an answer without the body asked for", "empty", nil, "no body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := cl.Call(within(t), tt.op, tt.req, &got)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	var remote *RemoteError
	if _, err := cl.Call(within(t), "no", nil, nil); !errors.As(err, &remote) || remote.Text != "not today" {
		t.Errorf("not a RemoteError: %v", err)
	}
}

func TestManyCallersShareOneConnection(t *testing.T) {
	var now, most atomic.Int32
	cl := serve(t, map[string]Handler{"echo": func(ctx context.Context, b json.RawMessage, f []*os.File) (any, []*os.File, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		return echoHandler(ctx, b, f)
	}})
	var wg sync.WaitGroup
	ctx := within(t)
	for i := range 300 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			want := strings.Repeat("z", i)
			var got echo
			if _, err := cl.Call(ctx, "echo", echo{Text: want}, &got); err != nil || got.Text != want {
				t.Errorf("call %d: %d bytes, %v", i, len(got.Text), err)
			}
		}()
	}
	wg.Wait()
	if m := most.Load(); m > maxInFlight || m < 2 {
		t.Errorf("%d calls in flight at once, want 2 to %d", m, maxInFlight)
	}
}

func TestFilesPassBothWays(t *testing.T) {
	cl := serve(t, map[string]Handler{"swap": func(_ context.Context, _ json.RawMessage, files []*os.File) (any, []*os.File, error) {
		if len(files) != 1 {
			return nil, nil, errors.New("want one file")
		}
		defer files[0].Close()
		b, err := io.ReadAll(files[0])
		if err != nil {
			return nil, nil, err
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		defer w.Close()
		_, err = w.Write(append([]byte("seen: "), b...))
		return nil, []*os.File{r}, err
	}})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString("hello")
	w.Close()
	files, err := cl.Call(within(t), "swap", nil, nil, r)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	defer files[0].Close()
	r.Close()
	b, err := io.ReadAll(files[0])
	if err != nil || string(b) != "seen: hello" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestUnwantedFilesAreClosed(t *testing.T) {
	cl := serve(t, map[string]Handler{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := cl.Call(within(t), "nobody", nil, nil, w); err == nil {
		t.Fatal("unknown operation answered")
	}
	w.Close()
	r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the passed end is still open: %v", err)
	}
}

func TestACallEndsWithItsContextAndTheNextStillWorks(t *testing.T) {
	release := make(chan struct{})
	cl := serve(t, map[string]Handler{
		"echo": echoHandler,
		"slow": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			<-release
			return echo{Text: "late"}, nil, nil
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := cl.Call(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(release)
	var got echo
	if _, err := cl.Call(within(t), "echo", echo{Text: "next"}, &got); err != nil || got.Text != "next" {
		t.Errorf("next call: %q, %v", got.Text, err)
	}
}

func TestPeerDeathEndsBothSides(t *testing.T) {
	t.Run("the server dies during a call", func(t *testing.T) {
		a, b := ends(t)
		cl := NewClient(a)
		go func() {
			_, _, _ = b.receive()
			b.Close()
		}()
		if _, err := cl.Call(within(t), "x", nil, nil); !Gone(err) {
			t.Errorf("got %v", err)
		}
		if _, err := cl.Call(within(t), "x", nil, nil); !Gone(err) {
			t.Errorf("second call: %v", err)
		}
		select {
		case <-cl.Done():
		case <-time.After(5 * time.Second):
			t.Error("the client does not know")
		}
	})
	t.Run("the client dies during a call", func(t *testing.T) {
		a, b := ends(t)
		ended := make(chan error, 1)
		go func() {
			ended <- Serve(context.Background(), b, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage, _ []*os.File) (any, []*os.File, error) {
				time.Sleep(20 * time.Millisecond)
				return nil, nil, nil
			}})
		}()
		if err := a.send([]byte(`{"id":1,"op":"wait"}`), nil); err != nil {
			t.Fatal(err)
		}
		a.Close()
		select {
		case err := <-ended:
			if !Gone(err) {
				t.Errorf("got %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Serve goes on without a peer")
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	_, b := ends(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, b, nil) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on")
	}
}

func TestHostileBytesEndTheConnection(t *testing.T) {
	long := bytes.Repeat([]byte("a"), maxPacket)
	more := append([]byte{packetMore}, long...)
	var flood [][]byte
	for range MaxMessage/maxPacket + 1 {
		flood = append(flood, more)
	}
	tests := []struct {
		name    string
		packets [][]byte
	}{
		{"unknown packet header", [][]byte{{9, '{', '}'}}},
		{"empty continuation", [][]byte{{packetMore}}},
		{"an empty message", [][]byte{{packetLast}}},
		{"not JSON", [][]byte{[]byte("\x00hello")}},
		{"no id", [][]byte{[]byte("\x00{\"op\":\"x\"}")}},
		{"unknown field", [][]byte{[]byte("\x00{\"id\":1,\"op\":\"x\",\"admin\":true}")}},
		{"trailing bytes", [][]byte{[]byte("\x00{\"id\":1,\"op\":\"x\"}{}")}},
		{"two frames in one", [][]byte{[]byte("\x00{\"id\":1,\"op\":\"x\"} 1")}},
		{"a reply to a server", [][]byte{[]byte("\x00{\"id\":1,\"error\":\"x\"}")}},
		{"negative id", [][]byte{[]byte("\x00{\"id\":-1,\"op\":\"x\"}")}},
		{"a body that is not UTF-8", [][]byte{[]byte("\x00{\"id\":1,\"op\":\"x\",\"body\":\"\xff\"}")}},
		{"a message without end", flood},
		{"an oversized packet", [][]byte{append(more, 'a')}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := ends(t)
			ended := make(chan error, 1)
			go func() { ended <- Serve(context.Background(), b, map[string]Handler{"x": echoHandler}) }()
			for _, p := range tt.packets {
				if err := a.sendPacket(p, nil); err != nil && !errors.Is(err, syscall.EPIPE) {
					t.Fatal(err)
				}
			}
			select {
			case err := <-ended:
				if !errors.Is(err, ErrProtocol) {
					t.Errorf("got %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("Serve goes on")
			}
		})
	}
}

func TestAClientDistrustsItsServer(t *testing.T) {
	tests := []struct{ name, answer string }{
		{"a request instead of a reply", `{"id":1,"op":"x"}`},
		{"an answer to a call never made", `{"id":2}`},
		{"not a frame", `[]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := ends(t)
			cl := NewClient(a)
			go func() {
				_, _, _ = b.receive()
				_ = b.send([]byte(tt.answer), nil)
			}()
			if _, err := cl.Call(within(t), "x", nil, nil); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTooManyFilesAreRefused(t *testing.T) {
	a, b := ends(t)
	files := make([]*os.File, MaxFiles+1)
	for i := range files {
		files[i] = os.Stdin
	}
	if err := a.send(nil, files); !errors.Is(err, ErrTooLarge) {
		t.Errorf("sending: %v", err)
	}
	// A peer that does not keep to the bound is cut off.
	go func() { _ = a.sendPacket([]byte{packetLast, '{', '}'}, files) }()
	if _, got, err := b.receive(); !errors.Is(err, ErrProtocol) || got != nil {
		t.Errorf("receiving: %d files, %v", len(got), err)
	}
}

func TestFilesBelongToTheFirstPacketOnly(t *testing.T) {
	a, b := ends(t)
	go func() {
		_ = a.sendPacket([]byte{packetMore, '{'}, nil)
		_ = a.sendPacket([]byte{packetLast, '}'}, []*os.File{os.Stdin})
	}()
	if _, files, err := b.receive(); !errors.Is(err, ErrProtocol) || files != nil {
		t.Errorf("receiving: %d files, %v", len(files), err)
	}
}

func TestNewConnRefusesAStream(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[1])
	if _, err := NewConn(os.NewFile(uintptr(fds[0]), "stream")); err == nil {
		t.Error("a stream socket was taken")
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"x","body":{"a":[1,2]}}`))
	f.Add([]byte(`{"id":1,"error":"x"}`))
	f.Add([]byte(`{"id":1}{"id":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			return
		}
		if fr.ID == 0 {
			t.Error("accepted without id")
		}
		if _, err := fr.encode(nil); err != nil {
			t.Errorf("accepted frame does not encode: %v", err)
		}
	})
}

func TestACallCanBeBegunBeforeTheLastOneIsAnswered(t *testing.T) {
	first := make(chan struct{})
	cl := serve(t, map[string]Handler{"echo": func(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
		if e, _ := Body[echo](body); e.Text == "first" {
			<-first
		}
		return echoHandler(ctx, body, files)
	}})
	var calls []*Pending
	for _, text := range []string{"first", "second"} {
		p, err := cl.Begin("echo", echo{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, p)
	}
	var got echo
	if _, err := calls[1].Wait(within(t), &got); err != nil || got.Text != "second" {
		t.Errorf("%q, %v", got.Text, err)
	}
	close(first)
	if _, err := calls[0].Wait(within(t), &got); err != nil || got.Text != "first" {
		t.Errorf("%q, %v", got.Text, err)
	}
}
