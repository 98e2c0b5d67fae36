package provenance_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io/fs"
	"testing"
	"time"

	"omega/policy/provenance"
	"omega/policy/provenance/writer"
)

const origin = "omega/00112233445566778899aabbccddeeff"

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// files is an exported log in memory.
type files map[string][]byte

func (f files) Read(_ context.Context, path string) ([]byte, error) {
	if b, ok := f[path]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

// keys of one log: who signs it and who may read it.
type keys struct {
	log     ed25519.PrivateKey
	auditor *ecdh.PrivateKey
}

func newKeys(t testing.TB) keys {
	t.Helper()
	_, log, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auditor, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keys{log, auditor}
}

func (k keys) public() ed25519.PublicKey { return k.log.Public().(ed25519.PublicKey) }

func (k keys) auditors() []provenance.Auditor {
	return []provenance.Auditor{{Name: "ada", Key: [32]byte(k.auditor.PublicKey().Bytes())}}
}

func (k keys) options() provenance.Options {
	return provenance.Options{LogKey: k.public(), Origin: origin, Auditor: k.auditor}
}

func (k keys) sign(_ context.Context, text []byte) ([]byte, error) {
	return provenance.SignCheckpoint(text, k.log)
}

// writer starts a log in memory.
func (k keys) writer(t testing.TB, change func(*writer.Config)) *writer.Writer {
	t.Helper()
	c := writer.Config{Origin: origin, LogKey: [32]byte(k.public()), Auditors: k.auditors(), Sign: k.sign}
	if change != nil {
		change(&c)
	}
	w, err := writer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func add(t testing.TB, w *writer.Writer, e provenance.Entry) uint64 {
	t.Helper()
	if e.Time.IsZero() {
		e.Time = start
	}
	index, err := w.Append(t.Context(), e)
	if err != nil {
		t.Fatalf("appending %s: %v", e.Kind, err)
	}
	return index
}

func intent(decision string) provenance.Entry {
	return provenance.Entry{
		Kind: provenance.KindIntent, Agent: "one", Identity: [32]byte{1}, Action: "mcp.tools/call",
		Resource: "files/read", Input: json.RawMessage(`{"args":{"path":"/a<b>"}}`), Decision: decision, Rule: "files",
	}
}

func outcome(intent uint64) provenance.Entry {
	return provenance.Entry{
		Kind: provenance.KindOutcome, Agent: "one", Action: "mcp.tools/call", Resource: "files/read",
		Intent: &intent, Result: json.RawMessage(`{"bytes":12}`),
	}
}

// story appends what a short boot records: boot, start, calls, exit.
func story(t testing.TB, w *writer.Writer, calls int) {
	t.Helper()
	add(t, w, provenance.Entry{Kind: provenance.KindBoot, PolicyDigest: [32]byte{7}})
	add(t, w, provenance.Entry{Kind: provenance.KindStart, Agent: "one"})
	for range calls {
		add(t, w, outcome(add(t, w, intent(provenance.Permit))))
	}
	add(t, w, intent(provenance.Deny))
	add(t, w, provenance.Entry{Kind: provenance.KindExit, Agent: "one", Result: json.RawMessage(`{"code":0}`)})
}

// export reads a log out of its writer, as `omega log export` does over HTTP.
func export(t testing.TB, w *writer.Writer, k keys) files {
	t.Helper()
	signed := w.Checkpoint()
	c, err := provenance.OpenCheckpoint(signed, origin, k.public())
	if err != nil {
		t.Fatal(err)
	}
	out := files{"checkpoint": signed}
	for _, tile := range provenance.TilesOf(c.Size) {
		b, err := w.Read(tile.Path())
		if err != nil {
			t.Fatal(err)
		}
		out[tile.Path()] = b
	}
	return out
}
