package gateway

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"omega/internal/strictjson"
)

const (
	// maxStore bounds what agents keep in the data sets of this boot together.
	maxStore = 32 << 20
	// maxStored bounds the files of all of them.
	maxStored = 4096
)

var errFull = errors.New("the data sets of this platform are full")

// store keeps the files of the data sets that have no server, for one boot. Each
// has the labels of the instance that wrote it, as they were when it did.
type store struct {
	mu    sync.Mutex        // guards what follows
	files map[string]stored // by SET/PATH
	size  int
}

type stored struct {
	body   []byte
	labels []string
}

// put writes a file, in the place of the one before.
func (s *store) put(set, path string, body []byte, labels []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := set + "/" + path
	old, replaces := s.files[key]
	size := s.size - len(old.body) + len(body)
	if size > maxStore || !replaces && len(s.files) >= maxStored {
		return errFull
	}
	if s.files == nil {
		s.files = map[string]stored{}
	}
	s.files[key], s.size = stored{slices.Clone(body), slices.Clone(labels)}, size
	return nil
}

// get returns a file with its labels, or for an empty path the names of all
// files with the labels of all: a name can say as much as what is in the file.
func (s *store) get(set, path string) (body []byte, labels []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path != "" {
		f, ok := s.files[set+"/"+path]
		if !ok {
			return nil, nil, errNoFile
		}
		return slices.Clone(f.body), slices.Clone(f.labels), nil
	}
	names := []string{}
	for key, f := range s.files {
		if name, ok := strings.CutPrefix(key, set+"/"); ok {
			names = append(names, name)
			labels = append(labels, f.labels...)
		}
	}
	slices.Sort(names)
	body, err = strictjson.Canonical(map[string]any{"files": names})
	return body, labels, err
}
