package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	mediator "omega/policy/gateway"
	"omega/policy/provenance"
	"omega/policy/provenance/writer"
)

const (
	talkerCard = `{"name":"talker","description":"Echoes.","url":"http://127.0.0.1:8000/","protocolVersion":"0.3.0","capabilities":{},"defaultInputModes":["text"],"defaultOutputModes":["text"],"skills":[],"version":"1"}`

	talkersPolicy = `
version: omega/policy/v1
platform: bench
principals: [{name: acme, key: keys/acme.pub, roles: [author], names: ["*"]}]
peers: [{name: talker, agent: talker, result: {integrity: trusted}}]
agents:
  - {name: asker, requires: [{role: author, principal: acme}], permits: [{id: send, action: a2a.message/send, resource: talker}]}
  - {name: talker, requires: [{role: author, principal: acme}], permits: []}
`
)

// talkSizes are the bytes of text in each message.
var talkSizes = []string{"64", "4096", "65536", "1048576"}

// signedLog is the real log, with a signed checkpoint under every intent.
type signedLog struct{ *writer.Writer }

func (l signedLog) Record(ctx context.Context, e provenance.Entry) (uint64, error) {
	return l.Append(ctx, e)
}

func newSignedLog(b *testing.B) signedLog {
	b.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	w, err := writer.New(writer.Config{Origin: "omega/" + strings.Repeat("ab", 16), LogKey: [32]byte(public), MaxBytes: 1 << 30,
		Sign: func(_ context.Context, text []byte) ([]byte, error) { return provenance.SignCheckpoint(text, private) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close() })
	if _, err := w.Append(b.Context(), provenance.Entry{Kind: provenance.KindBoot, Time: time.Now()}); err != nil {
		b.Fatal(err)
	}
	return signedLog{w}
}

// talkers makes the image of both agents.
func talkers(b *testing.B, s *stage) (image, program string) {
	b.Helper()
	program = filepath.Join(s.dir, "talker")
	goBuild(b, "testdata/talker", ".", program)
	text, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	layer := new(bytes.Buffer)
	w := tar.NewWriter(layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "talker", Mode: 0o755, Size: int64(len(text)), Uid: agentID}); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		b.Fatal(err)
	}
	_ = w.Close()
	image = filepath.Join(s.dir, "talkers.erofs")
	flattened(b, image, layer)
	return image, program
}

// socketPair is one link: the gateway's end and the sandbox's.
func socketPair(b *testing.B) (net.Conn, *os.File) {
	b.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "gateway"), os.NewFile(uintptr(fds[1]), "link")
	conn, err := net.FileConn(ours)
	if err != nil {
		b.Fatal(err)
	}
	_ = ours.Close()
	b.Cleanup(func() { _ = conn.Close(); _ = theirs.Close() })
	return conn, theirs
}

// report turns what the asking agent printed into figures.
func report(b *testing.B, lines []string) {
	b.Helper()
	found := 0
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "p50-ns" {
			continue
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(ns, "p50-ns-"+f[1])
		found++
	}
	if found != len(talkSizes) {
		b.Fatalf("it said %q", lines)
	}
}

// BenchmarkTalkGateway is a message from one sandbox to another through the gateway,
// policy and log included.
func BenchmarkTalkGateway(b *testing.B) {
	s := setUp(b)
	image, _ := talkers(b, s)
	out, err := compile.Compile([]byte(talkersPolicy), "../../policy/compile/testdata")
	if err != nil {
		b.Fatal(err)
	}
	decider, err := policy.NewDecider(b.Context(), out.Wasm)
	if err != nil {
		b.Fatal(err)
	}
	gw, err := mediator.New(mediator.Config{Document: out.Document, Decider: decider, Recorder: newSignedLog(b), Roots: x509.NewCertPool(),
		PolicyDigest: out.Digest, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	key := strings.Repeat("ab", 32)
	talker := mediator.Agent{Instance: "talker", Name: "talker", Keys: []string{key}, Card: json.RawMessage(talkerCard)}
	asker := mediator.Agent{Instance: "asker", Name: "asker", Peers: []mediator.PeerPin{{Name: "talker", Key: key}}}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	start := func(agent mediator.Agent, env map[string]string, serve bool, command ...string) *Sandbox {
		near, far := socketPair(b)
		go func() { _ = gw.ServeLink(ctx, agent, near) }()
		list, err := Env(env, nil)
		if err != nil {
			b.Fatal(err)
		}
		spec := Spec{Instance: agent.Instance, Image: image, Command: command, Env: list, Link: far}
		if serve {
			in, far := socketPair(b)
			go func() { _ = gw.ServeInbound(ctx, agent, in) }()
			spec.Inbound, spec.Port = far, 8000
		}
		box, err := s.runner.Start(ctx, spec)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = box.Kill() })
		return box
	}
	for range b.N {
		start(talker, map[string]string{"CARD": talkerCard}, true, "/talker", "serve", "127.0.0.1:8000")
		box := start(asker, nil, false, append([]string{"/talker", "ask", "http://127.0.0.1:3128/a2a/talker"}, talkSizes...)...)
		report(b, wait(b, box).LastLines)
	}
}

// BenchmarkTalkNetwork is the same two programs in sandboxes of their own with
// gVisor's network stack, each on a veth into a namespace where Go's reverse proxy
// runs, which parses, decides and keeps nothing.
func BenchmarkTalkNetwork(b *testing.B) {
	s := setUp(b)
	_, program := talkers(b, s)
	id := fmt.Sprintf("omega-%d", os.Getpid()%100000)
	middle := id + "m"
	sh := func(words ...string) {
		b.Helper()
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%q: %v\n%s", words, err, out)
		}
	}
	namespace := func(name string) {
		sh("ip", "netns", "add", name)
		b.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
		sh("ip", "-n", name, "link", "set", "lo", "up")
	}
	namespace(middle)
	for i, end := range []string{"a", "b"} {
		namespace(id + end)
		sh("ip", "-n", middle, "link", "add", "v"+end, "type", "veth", "peer", "name", "eth0", "netns", id+end)
		sh("ip", "-n", middle, "addr", "add", fmt.Sprintf("10.231.%d.1/24", i), "dev", "v"+end)
		sh("ip", "-n", middle, "link", "set", "v"+end, "up")
		sh("ip", "-n", id+end, "addr", "add", fmt.Sprintf("10.231.%d.2/24", i), "dev", "eth0")
		sh("ip", "-n", id+end, "link", "set", "eth0", "up")
		sh("ip", "-n", id+end, "route", "add", "default", "via", fmt.Sprintf("10.231.%d.1", i))
	}
	proxy := exec.Command("ip", "netns", "exec", middle, program, "proxy", "10.231.0.1:8080", "http://10.231.1.2:8000")
	said := newLastLines()
	proxy.Stdout, proxy.Stderr = said, said
	if err := proxy.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = proxy.Process.Kill(); _ = proxy.Wait() })
	b.Cleanup(func() { // each runsc has mounted one there
		for syscall.Unmount(filepath.Join(s.dir, "net/null-netns"), syscall.MNT_DETACH) == nil {
		}
	})
	for range b.N {
		served, _ := s.plain(b, program, id+"b", "serve", "0.0.0.0:8000")
		words, done := s.plain(b, program, id+"a", append([]string{"ask", "http://10.231.0.1:8080"}, talkSizes...)...)
		if err := <-done; err != nil {
			b.Fatalf("%v: %q, the proxy %q, the other %q", err, words.Lines(), said.Lines(), served.Lines())
		}
		report(b, words.Lines())
	}
}

// plain runs the program in a sandbox with a network, in a namespace of that name.
func (s *stage) plain(b *testing.B, program, namespace string, args ...string) (*lastLines, chan error) {
	b.Helper()
	bundle := filepath.Join(s.dir, namespace)
	for _, dir := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(bundle, "root", dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if text, err := os.ReadFile(program); err != nil || os.WriteFile(filepath.Join(bundle, "root/talker"), text, 0o755) != nil {
		b.Fatal(err)
	}
	config := runtimeConfig(Spec{Hostname: "agent", Command: append([]string{"/talker"}, args...)})
	config.Process.Args, config.Process.Env, config.Annotations = config.Process.Args[2:], []string{"PATH=/", "CARD=" + talkerCard}, nil
	text, err := json.Marshal(config)
	if err == nil {
		text = bytes.Replace(text, []byte(`{"type":"network"}`), []byte(`{"type":"network","path":"/var/run/netns/`+namespace+`"}`), 1)
		err = os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(s.dir, "net")
	cmd := exec.Command(s.runner.cfg.Runsc, "--root", root, "--platform=systrap", "--network=sandbox", "--ignore-cgroups", "run", "--bundle", bundle, namespace)
	words := newLastLines()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = words, words, time.Second
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	b.Cleanup(func() {
		_ = exec.Command(s.runner.cfg.Runsc, "--root", root, "delete", "--force", namespace).Run()
		_ = cmd.Process.Kill()
	})
	return words, done
}
