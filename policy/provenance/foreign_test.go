package provenance_test

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

// foreignTiles reads an export with x/mod's own tile arithmetic. Only the path
// is translated, by hand, from its form to that of C2SP tlog-tiles.
type foreignTiles struct {
	t   *testing.T
	log files
}

func (f foreignTiles) Height() int                     { return 8 }
func (f foreignTiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (f foreignTiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range list {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		b, ok := f.log[path]
		if !ok {
			return nil, fmt.Errorf("no %s", path)
		}
		out = append(out, b)
	}
	return out, nil
}

func TestForeignCodeVerifiesOurLog(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 100)
	old := export(t, w, k)
	story(t, w, 300)
	log := export(t, w, k)

	key, err := note.NewEd25519VerifierKey(origin, k.public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	trees := make([]tlog.Tree, 2)
	for i, signed := range [][]byte{old["checkpoint"], log["checkpoint"]} {
		n, err := note.Open(signed, note.VerifierList(v))
		if err != nil {
			t.Fatal(err)
		}
		var name, root string
		if _, err := fmt.Sscanf(n.Text, "%s\n%d\n%s\n", &name, &trees[i].N, &root); err != nil || name != origin {
			t.Fatalf("%q: %v", n.Text, err)
		}
		b, err := base64.StdEncoding.DecodeString(root)
		if err != nil {
			t.Fatal(err)
		}
		trees[i].Hash = tlog.Hash(b)
	}
	hashes := tlog.TileHashReader(trees[1], foreignTiles{t, log})
	consistency, err := tlog.ProveTree(trees[1].N, trees[0].N, hashes)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(consistency, trees[1].N, trees[1].Hash, trees[0].N, trees[0].Hash); err != nil {
		t.Error(err)
	}
	leaves := foreignLeaves(t, log, int(trees[1].N))
	for i, leaf := range leaves {
		proof, err := tlog.ProveRecord(trees[1].N, int64(i), hashes)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, trees[1].N, trees[1].Hash, int64(i), tlog.RecordHash(leaf)); err != nil {
			t.Fatalf("leaf %d: %v", i, err)
		}
	}
}

// foreignLeaves splits the entry bundles without our code.
func foreignLeaves(t *testing.T, log files, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for tile := 0; tile*256 < n; tile++ {
		path := fmt.Sprintf("tile/entries/%03d", tile)
		if width := n - tile*256; width < 256 {
			path += fmt.Sprintf(".p/%d", width)
		}
		for b := log[path]; len(b) > 0; {
			size := int(b[0])<<8 | int(b[1])
			out = append(out, b[2:2+size])
			b = b[2+size:]
		}
	}
	if len(out) != n {
		t.Fatalf("%d leaves, want %d", len(out), n)
	}
	return out
}

func TestOurProofsConvinceAndWrongOnesDoNot(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 30)
	old := head(t, export(t, w, k), k)
	story(t, w, 150)
	log := export(t, w, k)
	now := head(t, log, k)
	consistency, err := provenance.ProveConsistency(t.Context(), log, now, old)
	if err != nil {
		t.Fatal(err)
	}
	if err := provenance.CheckConsistency(now, old, consistency); err != nil {
		t.Error(err)
	}
	forked := old
	forked.Root[0] ^= 1
	if err := provenance.CheckConsistency(now, forked, consistency); err == nil {
		t.Error("a fork is consistent")
	}
	leaves := foreignLeaves(t, log, int(now.Size))
	for _, index := range []uint64{0, 1, 255, 256, now.Size - 1} {
		proof, err := provenance.ProveInclusion(t.Context(), log, now, index)
		if err != nil {
			t.Fatal(err)
		}
		if err := provenance.CheckInclusion(now, index, leaves[index], proof); err != nil {
			t.Error(err)
		}
		if err := provenance.CheckInclusion(now, index, append(leaves[index], 0), proof); err == nil {
			t.Errorf("entry %d: another leaf is included", index)
		}
		if err := provenance.CheckInclusion(now, index+1, leaves[index], proof); err == nil {
			t.Errorf("entry %d: included at another index", index)
		}
	}
	for _, index := range []uint64{now.Size, math.MaxUint64} {
		if _, err := provenance.ProveInclusion(t.Context(), log, now, index); err == nil {
			t.Errorf("entry %d of %d has a proof", index, now.Size)
		}
	}
	log["tile/0/000"][9] ^= 1
	if _, err := provenance.ProveInclusion(t.Context(), log, now, 1); err == nil {
		t.Error("a proof was made from a changed tile")
	}
}
