package provenance

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestATreeHasTheHashesThatXModHas(t *testing.T) {
	var tree Tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(700) {
		leaf := []byte{byte(n), byte(n >> 8)}
		hs, err := tlog.StoredHashes(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hs...)
		tree.Append(tlog.RecordHash(leaf))
		want, err := tlog.TreeHash(n+1, reader)
		if err != nil || tree.Root() != want {
			t.Fatalf("%d leaves: root %v, want %v (%v)", n+1, tree.Root(), want, err)
		}
	}
	for _, tile := range TilesOf(tree.Size()) {
		if tile.Level < 0 {
			continue
		}
		want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: tile.Level, N: int64(tile.N), W: tile.Width}, reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.Tile(tile)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %x, want %x (%v)", tile.Path(), got, want, err)
		}
	}
}

func TestASnapshotStaysWhileTheTreeGrows(t *testing.T) {
	var tree Tree
	for n := range 300 {
		tree.Append(tlog.RecordHash([]byte{byte(n)}))
		before, snapshot := tree.Root(), tree.Snapshot()
		grown := tree // the same edge and levels below
		for range 5 {
			grown.Append(tlog.Hash{1})
		}
		if snapshot.Root() != before || snapshot.Size() != uint64(n+1) {
			t.Fatalf("%d leaves: the snapshot changed", n+1)
		}
		tree = snapshot.Snapshot()
	}
}

// base64 leaves two bits of the last letter unused: a decoder that ignores them
// would let a byte of a stored checkpoint change unseen.
func TestASignatureHasOneSpelling(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := key.Public().(ed25519.PublicKey)
	good, err := SignCheckpoint(Checkpoint{Origin: "omega/x", Size: 3}.Text(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(good, "", public); err != nil {
		t.Fatal(err)
	}
	last := len(good) - len("=\n") - 1
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for _, c := range letters {
		bad := append([]byte(nil), good...)
		if bad[last] = byte(c); bad[last] == good[last] {
			continue
		}
		if _, err := base64.StdEncoding.DecodeString(string(bad[last-90 : last+2])); err != nil {
			continue
		}
		if _, err := OpenCheckpoint(bad, "", public); !errors.Is(err, ErrSignature) {
			t.Errorf("last letter %c: error %v", c, err)
		}
	}
}

func TestOnlyCheckpointsOfTheOneFormAreParsed(t *testing.T) {
	root := tlog.Hash{}.String()
	for name, text := range map[string]string{
		"nothing": "", "no root": "omega/x\n3\n", "extension": "omega/x\n3\n" + root + "\nmore\n", "no origin": "\n3\n" + root + "\n",
		"origin with a space": "omega x\n3\n" + root + "\n", "origin with a plus": "a+b\n3\n" + root + "\n",
		"leading zero": "omega/x\n03\n" + root + "\n", "plus": "omega/x\n+3\n" + root + "\n", "negative": "omega/x\n-3\n" + root + "\n",
		"too large": "omega/x\n9223372036854775808\n" + root + "\n", "short root": "omega/x\n3\nAAAA\n", "no end": "omega/x\n3\n" + root,
		"return": "omega/x\r\n3\n" + root + "\n",
	} {
		if c, err := ParseCheckpoint([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, c)
		}
	}
}
