// Package probe is the protocol between the guest and the program that speaks to
// NVIDIA's management library. That library is foreign machine code that ends
// its process when it does not like something, so it lives in a process of its
// own (gpu/nvml) behind two pipes: a request, an answer, one at a time.
//
// A message is its length (4 bytes, big endian) and that many bytes of JSON. This
// package takes and gives bytes; it neither starts programs nor knows a GPU.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"omega/internal/strictjson"
)

// MaxMessage bounds a message: a report (8 KiB) and a chain (5 KiB) in base64.
const MaxMessage = 64 << 10

// What the program can be asked for.
const (
	OpSystem   = "system"   // Answer.System
	OpEvidence = "evidence" // Answer.Report and Answer.Chain of one GPU, for a nonce
	OpReady    = "ready"    // sets the ready state and reads it back: Answer.System
)

// Request is one question. The zero value is none.
type Request struct {
	Op    string   `json:"op"`
	GPU   int      `json:"gpu,omitempty"`   // index below System.GPUs; OpEvidence
	Nonce [32]byte `json:"nonce,omitempty"` // OpEvidence
	Ready bool     `json:"ready,omitempty"` // OpReady
}

// Answer is one answer; Error says that there is none. The bytes in it are a
// GPU's own and nobody has looked at them.
type Answer struct {
	Error  string  `json:"error,omitempty"`
	System *System `json:"system,omitempty"`
	Report []byte  `json:"report,omitempty"` // SPDM measurement report with its request
	Chain  []byte  `json:"chain,omitempty"`  // PEM certificates, leaf first
}

// System is what the driver says of the machine. The zero value is of a machine
// without a GPU and without confidential computing.
type System struct {
	Driver      string `json:"driver"`
	GPUs        int    `json:"gpus"`
	CPU         uint32 `json:"cpu"`         // CPUSNP …
	GPUCapable  bool   `json:"gpu_capable"` // every GPU has a CC mode
	Feature     bool   `json:"feature"`     // CC mode is on
	Environment uint32 `json:"environment"` // EnvironmentProduction …
	DevTools    bool   `json:"devtools"`    // debugging is possible: nothing is confidential
	MultiGPU    uint32 `json:"multi_gpu"`
	Ready       bool   `json:"ready"` // the GPUs take work
}

// Values of System, as nvml.h names them (NVML_CC_SYSTEM_*).
const (
	CPUSNP                = 3
	CPUVTOM               = 4
	EnvironmentProduction = 2
	MultiGPUNone          = 0
	MultiGPUProtectedPCIe = 1
)

// maxGPUs bounds an index and a count: eight GPUs are the most that protected
// PCIe has, and a board is not larger.
const maxGPUs = 16

// ErrProtocol reports bytes that are not a message. What comes after them has no
// meaning: the pipe is given up.
var ErrProtocol = errors.New("probe protocol")

// Write sends v, a Request or an Answer.
func Write(w io.Writer, v any) error {
	b, err := strictjson.Canonical(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("%w: message of %d bytes, at most %d", ErrProtocol, len(b), MaxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// read gives the bytes of one message. io.EOF is the end between two.
func read(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > MaxMessage {
		return nil, fmt.Errorf("%w: message of %d bytes, at most %d", ErrProtocol, n, MaxMessage)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return b, nil
}

// ReadRequest reads one request. io.EOF is the end between two.
func ReadRequest(r io.Reader) (Request, error) {
	b, err := read(r)
	if err != nil {
		return Request{}, err
	}
	return ParseRequest(b)
}

// ParseRequest reads a request's JSON strictly.
func ParseRequest(b []byte) (Request, error) {
	var q Request
	if err := strictjson.Decode(b, &q, strictjson.Limits{MaxBytes: MaxMessage}); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	known := q.Op == OpSystem || q.Op == OpEvidence || q.Op == OpReady
	if !known || q.GPU < 0 || q.GPU >= maxGPUs {
		return Request{}, fmt.Errorf("%w: op %.20q of GPU %d", ErrProtocol, q.Op, q.GPU)
	}
	return q, nil
}

// ReadAnswer reads the answer to q.
func ReadAnswer(r io.Reader, q Request) (Answer, error) {
	b, err := read(r)
	if err != nil {
		return Answer{}, err
	}
	return ParseAnswer(b, q)
}

// ParseAnswer reads an answer's JSON strictly: it has what q asks for and nothing
// else, or an error.
func ParseAnswer(b []byte, q Request) (Answer, error) {
	var a Answer
	if err := strictjson.Decode(b, &a, strictjson.Limits{MaxBytes: MaxMessage}); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	evidence := len(a.Report) > 0 && len(a.Chain) > 0 && a.System == nil
	system := a.System != nil && len(a.Report) == 0 && len(a.Chain) == 0 && a.System.GPUs >= 0 && a.System.GPUs <= maxGPUs
	switch {
	case a.Error != "":
		return Answer{Error: a.Error}, nil
	case q.Op == OpEvidence && evidence, q.Op != OpEvidence && system:
		return a, nil
	}
	return Answer{}, fmt.Errorf("%w: an answer that does not fit %q", ErrProtocol, q.Op)
}
