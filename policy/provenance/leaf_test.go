package provenance

import (
	"bytes"
	"errors"
	"testing"
)

func TestOnlyWholeLeavesAreParsed(t *testing.T) {
	entry := (&Leaf{Epoch: 1, Seq: 2, Sealed: []byte("sealed")}).Marshal()
	header := (&Leaf{Header: true, Recipients: []Recipient{{}, {}}}).Marshal()
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	const count = 2 + 8 + 8 + 32 // where a leaf's u32 length or count stands
	tests := []struct {
		name string
		leaf []byte
		want error
	}{
		{"entry", entry, nil},
		{"header", header, nil},
		{"header for nobody", (&Leaf{Header: true}).Marshal(), nil},
		{"nothing", nil, ErrLeaf},
		{"entry and a byte", append(bytes.Clone(entry), 0), ErrLeaf},
		{"header and a byte", append(bytes.Clone(header), 0), ErrLeaf},
		{"entry cut off", entry[:len(entry)-1], ErrLeaf},
		{"header cut off", header[:len(header)-1], ErrLeaf},
		{"beginning only", entry[:count], ErrLeaf},
		{"another version", change(entry, 0, 2), ErrLeaf},
		{"another kind", change(entry, 1, 3), ErrLeaf},
		{"a length beyond all memory", change(entry, count, 0xff), ErrLeaf},
		{"more recipients than there are", change(header, count+3, 3), ErrLeaf},
		{"more recipients than allowed", change(header, count, 0xff), ErrLeaf},
		{"longer than a bundle can carry", (&Leaf{Sealed: make([]byte, MaxLeaf)}).Marshal(), ErrLeaf},
	}
	for _, tt := range tests {
		if l, err := ParseLeaf(tt.leaf); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, error %v, want %v", tt.name, l, err, tt.want)
		}
	}
}

func TestOnlyWholeRecordsInTheirPlaceAreParsed(t *testing.T) {
	good, err := AppendRecord(nil, 100, Record{Kind: RecordLeaf, Payload: []byte("leaf")})
	if err != nil {
		t.Fatal(err)
	}
	if r, size, err := ParseRecord(append(bytes.Clone(good), "what follows"...), 100); err != nil || size != len(good) || string(r.Payload) != "leaf" {
		t.Errorf("%+v, %d, %v", r, size, err)
	}
	if _, _, err := ParseRecord(good, 101); !errors.Is(err, ErrRecord) {
		t.Errorf("at another offset: error %v", err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, _, err := ParseRecord(bad, 100); !errors.Is(err, ErrRecord) {
			t.Errorf("byte %d changed: error %v", i, err)
		}
		if _, _, err := ParseRecord(good[:i], 100); !errors.Is(err, ErrRecord) {
			t.Errorf("cut at %d: error %v", i, err)
		}
	}
	if _, err := AppendRecord(nil, 0, Record{Kind: RecordLeaf, Payload: make([]byte, MaxLeaf+1)}); !errors.Is(err, ErrRecord) {
		t.Errorf("too long: error %v", err)
	}
	unknown, err := AppendRecord(nil, 0, Record{Kind: 9})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ParseRecord(unknown, 0); !errors.Is(err, ErrRecord) {
		t.Errorf("unknown kind: error %v", err)
	}
}
