package provenance

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// tiles lets x/mod make and check proofs over a Source. It never trusts a tile:
// tlog.TileHashReader authenticates each against the root.
type tiles struct {
	ctx context.Context // for one proof; x/mod's interface has no room for it
	src Source
}

func (t tiles) Height() int { return tileHeight }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, 0, len(list))
	for _, one := range list {
		b, err := readTile(t.ctx, t.src, Tile{Level: one.L, N: uint64(one.N), Width: one.W})
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func hashes(ctx context.Context, src Source, c Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(c.Size), Hash: c.Root}, tiles{ctx, src})
}

// ProveInclusion makes the proof that leaf index stands below c, which must be verified.
func ProveInclusion(ctx context.Context, src Source, c Checkpoint, index uint64) (tlog.RecordProof, error) {
	if index >= c.Size {
		return nil, fmt.Errorf("%w: entry %d of %d", ErrTampered, index, c.Size)
	}
	p, err := tlog.ProveRecord(int64(c.Size), int64(index), hashes(ctx, src, c))
	if err != nil {
		return nil, fmt.Errorf("%w: inclusion of %d: %w", ErrTampered, index, err)
	}
	return p, nil
}

// CheckInclusion reports a proof that does not put leaf at index below c.
func CheckInclusion(c Checkpoint, index uint64, leaf []byte, proof tlog.RecordProof) error {
	if err := tlog.CheckRecord(proof, int64(c.Size), c.Root, int64(index), tlog.RecordHash(leaf)); err != nil {
		return fmt.Errorf("%w: inclusion of %d: %w", ErrTampered, index, err)
	}
	return nil
}

// ProveConsistency makes the proof that the log of head continues the one of old.
func ProveConsistency(ctx context.Context, src Source, head, old Checkpoint) (tlog.TreeProof, error) {
	if old.Origin != head.Origin || old.Size == 0 || old.Size > head.Size {
		return nil, fmt.Errorf("%w: %s of %d, then %s of %d", ErrFork, old.Origin, old.Size, head.Origin, head.Size)
	}
	p, err := tlog.ProveTree(int64(head.Size), int64(old.Size), hashes(ctx, src, head))
	if err != nil {
		return nil, fmt.Errorf("%w: consistency: %w", ErrTampered, err)
	}
	return p, nil
}

// CheckConsistency reports a proof that does not join old to head.
func CheckConsistency(head, old Checkpoint, proof tlog.TreeProof) error {
	if old.Origin != head.Origin || old.Size == 0 || old.Size > head.Size {
		return fmt.Errorf("%w: %s of %d, then %s of %d", ErrFork, old.Origin, old.Size, head.Origin, head.Size)
	}
	if err := tlog.CheckTree(proof, int64(head.Size), head.Root, int64(old.Size), old.Root); err != nil {
		return fmt.Errorf("%w: %w", ErrFork, err)
	}
	return nil
}
