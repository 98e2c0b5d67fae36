package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"omega/attest"
	"omega/internal/wire"
	"omega/policy"
	"omega/policy/provenance"
	"omega/policy/provenance/writer"
)

// logChild keeps the provenance log: the others append to it, the front reads
// its public form, and the signer signs its checkpoints.
type logChild struct {
	c       *child
	signer  *wire.Client
	reading sync.Mutex // one file at a time: a bundle of entries can have 16 MiB

	mu  sync.Mutex // guards what follows
	log *writer.Writer
}

func runLog(ctx context.Context, c *child) error {
	signer, err := c.client("signer")
	if err != nil {
		return err
	}
	l := &logChild{c: c, signer: signer}
	handlers := map[string]map[string]wire.Handler{
		"pid1":  {opStart: handleFile(l.start)},
		"front": {opRead: l.read},
	}
	for peer, kinds := range recorders {
		if handlers[peer] == nil {
			handlers[peer] = map[string]wire.Handler{}
		}
		handlers[peer][opAppend] = handle(l.appendOf(kinds))
	}
	handlers["gateway"][opProve] = handle(l.prove)
	return serveAll(ctx, c, handlers)
}

// prove answers with the proof that an entry is in the log.
func (l *logChild) prove(_ context.Context, req proveRequest) (proveReply, error) {
	w, err := l.get()
	if err != nil {
		return proveReply{}, err
	}
	p, err := w.Prove(req.Index)
	if err != nil {
		return proveReply{}, err
	}
	reply := proveReply{Leaf: p.Leaf, Size: p.Size, Path: make([]attest.Bytes32, len(p.Path))}
	for i := range p.Path {
		reply.Path[i] = attest.Bytes32(p.Path[i])
	}
	return reply, nil
}

// recorders says who may enter what, so that a child that was taken over cannot
// put words into another's mouth.
var recorders = map[string][]string{
	"pid1":     {provenance.KindBoot},
	"gateway":  {provenance.KindIntent, provenance.KindOutcome, provenance.KindRefusal, provenance.KindApproval, provenance.KindNarrowing},
	"fetcher":  {provenance.KindAdmission, provenance.KindRefusal, provenance.KindRemoval},
	"sandboxd": {provenance.KindStart, provenance.KindExit, provenance.KindReading, provenance.KindRefusal},
}

func (l *logChild) start(_ context.Context, req logStart, disk *os.File) (nothing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log != nil || req.Disk != (disk != nil) {
		return nothing{}, errors.New("start: already started, or the disk is missing")
	}
	p, err := checkedPolicy(req.PolicyDigest)
	if err != nil {
		return nothing{}, err
	}
	auditors, err := auditorsOf(p.Document)
	if err != nil {
		return nothing{}, err
	}
	cfg := writer.Config{Origin: req.Origin, LogKey: req.LogKey, Auditors: auditors, Sign: l.sign, Log: l.c.log}
	if disk != nil {
		size, err := disk.Seek(0, io.SeekEnd)
		if err != nil {
			return nothing{}, fmt.Errorf("log disk: %w", err)
		}
		cfg.Disk, cfg.DiskSize = disk, size
	}
	l.log, err = writer.New(cfg)
	return nothing{}, err
}

// auditorsOf reads the auditors' X25519 keys out of the policy.
func auditorsOf(d *policy.Document) ([]provenance.Auditor, error) {
	var out []provenance.Auditor
	for _, a := range d.Auditors {
		key, err := hex.DecodeString(a.Key)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("auditor %s: key is not 32 bytes of hex", a.Name)
		}
		out = append(out, provenance.Auditor{Name: a.Name, Key: [32]byte(key)})
	}
	return out, nil
}

func (l *logChild) sign(ctx context.Context, text []byte) ([]byte, error) {
	var reply signReply
	_, err := l.signer.Call(ctx, opSign, signRequest{Text: text}, &reply)
	return reply.Note, err
}

func (l *logChild) get() (*writer.Writer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return nil, errNotStarted
	}
	return l.log, nil
}

// errKind refuses an entry that is another child's to make.
var errKind = errors.New("append: this child does not make entries of this kind")

// appendOf appends entries of the given kinds.
func (l *logChild) appendOf(kinds []string) func(context.Context, appendRequest) (appendReply, error) {
	return func(ctx context.Context, req appendRequest) (appendReply, error) {
		if !slices.Contains(kinds, req.Entry.Kind) {
			return appendReply{}, errKind
		}
		w, err := l.get()
		if err != nil {
			return appendReply{}, err
		}
		if !req.Lazy {
			index, err := w.Append(ctx, req.Entry)
			return appendReply{Index: index}, err
		}
		wait, err := w.Submit(ctx, req.Entry)
		if err != nil {
			return appendReply{}, err
		}
		index, err := wait()
		return appendReply{Index: index}, err
	}
}

// read answers with a memory file: a bundle of entries can be larger than a message.
func (l *logChild) read(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
	for _, f := range files {
		_ = f.Close()
	}
	req, err := wire.Body[readRequest](body)
	if err != nil {
		return nil, nil, err
	}
	w, err := l.get()
	if err != nil {
		return nil, nil, err
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	b, err := w.Read(req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return readReply{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := memoryFile("log", b)
	if err != nil {
		return nil, nil, err
	}
	return readReply{Found: true}, []*os.File{f}, nil
}

// memoryFile returns a sealed file in memory with content b.
func memoryFile(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("memory file: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("memory file: sealing: %w", err)
	}
	return f, nil
}
