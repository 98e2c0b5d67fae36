package provenance_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"omega/policy/provenance"
)

func FuzzLeaf(f *testing.F) {
	k := newKeys(f)
	epoch, header, err := provenance.NewEpoch(origin, 0, 0, k.auditors())
	if err != nil {
		f.Fatal(err)
	}
	leaf, err := epoch.Seal(1, []byte(`{"kind":"boot"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(header.Marshal())
	f.Add(leaf.Marshal())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := provenance.ParseLeaf(b)
		if err == nil && !bytes.Equal(l.Marshal(), b) {
			t.Errorf("%x reads as %x", b, l.Marshal())
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signed, err := provenance.SignCheckpoint(provenance.Checkpoint{Origin: origin, Size: 7}.Text(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(provenance.Checkpoint{Origin: origin}.Text())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := provenance.ParseCheckpoint(b); err == nil && !bytes.Equal(c.Text(), b) {
			t.Errorf("%q reads as %q", b, c.Text())
		}
		c, err := provenance.OpenCheckpoint(b, "", key.Public().(ed25519.PublicKey))
		if err == nil && !bytes.HasPrefix(b, c.Text()) {
			t.Errorf("%q opens as %q", b, c.Text())
		}
	})
}

func FuzzRecord(f *testing.F) {
	b, err := provenance.AppendRecord(nil, 5, provenance.Record{Kind: provenance.RecordLeaf, Payload: []byte("leaf")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint64(5))
	f.Add(b[:9], uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, offset uint64) {
		r, size, err := provenance.ParseRecord(b, offset)
		if err != nil {
			return
		}
		again, err := provenance.AppendRecord(nil, offset, r)
		if err != nil || !bytes.Equal(again, b[:size]) {
			t.Errorf("%x reads as %x (%v)", b[:size], again, err)
		}
	})
}

func FuzzEntry(f *testing.F) {
	b, err := provenance.Entry{Kind: provenance.KindBoot, Time: start}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	e := outcome(3)
	e.Time = start
	if b, err = e.Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := provenance.ParseEntry(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s reads as %s (%v)", b, again, err)
		}
	})
}

func FuzzBundle(f *testing.F) {
	b, err := provenance.AppendBundle(nil, []byte("leaf"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, 1)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		leaves, err := provenance.ParseBundle(b, width)
		if err != nil {
			return
		}
		var again []byte
		for _, leaf := range leaves {
			if again, err = provenance.AppendBundle(again, leaf); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x reads as %x", b, again)
		}
	})
}

func FuzzTilePath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/entries/x001/234.p/7", "tile/7/000.p/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tile, err := provenance.ParseTile(s); err == nil && tile.Path() != s {
			t.Errorf("%q reads as %q", s, tile.Path())
		}
	})
}

func FuzzDisk(f *testing.F) {
	b, err := provenance.AppendRecord(nil, 0, provenance.Record{Kind: provenance.RecordOrigin, Payload: []byte(origin)})
	if err != nil {
		f.Fatal(err)
	}
	text := provenance.Checkpoint{Origin: origin}.Text()
	b, err = provenance.AppendRecord(b, uint64(len(b)), provenance.Record{Kind: provenance.RecordCheckpoint, Payload: append(text, "\nsigned\n"...)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := provenance.OpenDisk(t.Context(), bytes.NewReader(b), "")
		if err != nil {
			return
		}
		if _, err := d.Read(t.Context(), "checkpoint"); err != nil {
			t.Error(err)
		}
		if _, err := d.Read(t.Context(), "tile/entries/000"); err == nil {
			t.Error("a full bundle out of a few bytes")
		}
	})
}
