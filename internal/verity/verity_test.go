package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/skip"
)

// content is a file of that size, the same each time.
func content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// sizes are those at which a tree changes its form.
var sizes = []int{1, 4095, 4096, 4097, 2 * 4096, 128 * 4096, 128*4096 + 1, 129*4096 - 5, 128 * 128 * 4096, 128*128*4096 + 1}

func TestVeritysetupAcceptsTheTreeAndItsRoot(t *testing.T) {
	program, err := exec.LookPath("veritysetup")
	if err != nil {
		if program = "/usr/sbin/veritysetup"; !exists(program) {
			skip.Missing(t, "veritysetup of cryptsetup-bin")
		}
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := content(size)
			root, tail, err := Append(bytes.NewReader(data), int64(size))
			if err != nil {
				t.Fatal(err)
			}
			disk := filepath.Join(t.TempDir(), "disk")
			whole := append(data, tail...)
			if int64(len(whole)) != DiskBlocks(int64(size))*BlockSize {
				t.Errorf("%d bytes on disk, want %d blocks", len(whole), DiskBlocks(int64(size)))
			}
			verify := func() error {
				if err := os.WriteFile(disk, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				blocks := DataBlocks(int64(size))
				out, err := exec.CommandContext(t.Context(), program, "verify", "--no-superblock", "--format=1", "--hash=sha256",
					"--salt=-", "--data-block-size=4096", "--hash-block-size=4096", fmt.Sprint("--data-blocks=", blocks),
					fmt.Sprint("--hash-offset=", blocks*BlockSize), disk, disk, hex.EncodeToString(root[:])).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}
			if blocks := DataBlocks(int64(size)); blocks > 1 {
				if err := verify(); err != nil {
					t.Error(err)
				}
				whole[size/2] ^= 1
				if err := verify(); err == nil {
					t.Error("veritysetup accepts a flipped bit: it checks nothing")
				}
				whole[size/2] ^= 1
			}
			top := whole[RootBlock(int64(size))*BlockSize:][:BlockSize]
			if sha256.Sum256(top) != root {
				t.Error("the root is not the hash of the block that RootBlock names")
			}
		})
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func TestTheRootDoesNotDependOnHowTheFileComes(t *testing.T) {
	data := content(300*4096 + 77)
	want, _, err := Append(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{1000, 4096, 4097, 1 << 16, len(data)} {
		h := New()
		for rest := data; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			h.Write(rest[:min(piece, len(rest))])
		}
		if got, err := h.Root(); err != nil || got != want || h.Size() != int64(len(data)) {
			t.Errorf("in pieces of %d: %x, %v", piece, got, err)
		}
	}
	for i := 0; i < len(data); i += 4096 {
		bad := bytes.Clone(data)
		bad[i] ^= 0x80
		h := New()
		h.Write(bad)
		if got, _ := h.Root(); got == want {
			t.Fatalf("a flipped bit at %d has the same root", i)
		}
	}
}

func TestFilesWithoutBytesOrShortOnesAreRefused(t *testing.T) {
	if _, err := New().Root(); !errors.Is(err, ErrSize) {
		t.Errorf("no bytes: %v", err)
	}
	if _, _, err := Append(strings.NewReader(""), 0); !errors.Is(err, ErrSize) {
		t.Errorf("no bytes: %v", err)
	}
	if _, _, err := Append(strings.NewReader(""), MaxSize+1); !errors.Is(err, ErrSize) {
		t.Errorf("too many: %v", err)
	}
	if _, _, err := Append(strings.NewReader("short"), 6); err == nil {
		t.Error("a file that ends early was taken")
	}
}
