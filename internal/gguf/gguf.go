// Package gguf writes the smallest files that an inference engine of llama.cpp's
// family takes for a model and for an adapter of it. Tests and the demo run a real
// engine on them. What such a model says is letters without sense, always the same.
//
// It reads nothing, and has no part in an image.
package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The form of a file (ggml, docs/gguf.md, version 3): little endian, a header, keys
// with values, the descriptions of the tensors, then their values, aligned.
const (
	version   = 3
	alignment = 32
	typeF32   = 0 // of a tensor
)

// The types of values.
const (
	kindUint32 = 4
	kindInt32  = 5
	kindFloat  = 6
	kindBool   = 7
	kindString = 8
	kindArray  = 9
)

// A file is one that is being written.
type file struct {
	keys    int
	head    bytes.Buffer
	tensors []tensor
}

// tensor is a matrix; the first dimension is the one whose values lie side by side.
type tensor struct {
	name   string
	dims   []uint64
	values []float32
}

func (f *file) put(v any) { _ = binary.Write(&f.head, binary.LittleEndian, v) } // a buffer takes all

func (f *file) text(s string) {
	f.put(uint64(len(s)))
	f.head.WriteString(s)
}

// set writes one key with its value.
func (f *file) set(key string, value any) {
	f.keys++
	f.text(key)
	switch v := value.(type) {
	case uint32:
		f.put(uint32(kindUint32))
		f.put(v)
	case float32:
		f.put(uint32(kindFloat))
		f.put(v)
	case bool:
		f.put(uint32(kindBool))
		f.put(v)
	case string:
		f.put(uint32(kindString))
		f.text(v)
	case []string:
		f.list(kindString, len(v))
		for _, s := range v {
			f.text(s)
		}
	case []float32:
		f.list(kindFloat, len(v))
		f.put(v)
	case []int32:
		f.list(kindInt32, len(v))
		f.put(v)
	}
}

func (f *file) list(kind uint32, n int) {
	f.put(uint32(kindArray))
	f.put(kind)
	f.put(uint64(n))
}

// tensor adds a matrix whose values come from next.
func (f *file) tensor(name string, next func(i int) float32, dims ...uint64) {
	n := uint64(1)
	for _, d := range dims {
		n *= d
	}
	t := tensor{name: name, dims: dims, values: make([]float32, n)}
	for i := range t.values {
		t.values[i] = next(i)
	}
	f.tensors = append(f.tensors, t)
}

// bytes is the whole file.
func (f *file) bytes() []byte {
	out := &file{}
	out.head.WriteString("GGUF")
	out.put(uint32(version))
	out.put(uint64(len(f.tensors)))
	out.put(uint64(f.keys))
	out.head.Write(f.head.Bytes())
	at := uint64(0)
	for _, t := range f.tensors {
		out.text(t.name)
		out.put(uint32(len(t.dims)))
		out.put(t.dims)
		out.put(uint32(typeF32))
		out.put(at)
		at += aligned(uint64(4 * len(t.values)))
	}
	for _, t := range f.tensors {
		out.pad()
		for _, v := range t.values {
			out.put(math.Float32bits(v))
		}
	}
	out.pad()
	return out.head.Bytes()
}

func (f *file) pad() {
	n := uint64(f.head.Len())
	f.head.Write(make([]byte, aligned(n)-n))
}

func aligned(n uint64) uint64 { return (n + alignment - 1) / alignment * alignment }
