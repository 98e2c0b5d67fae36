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
	// storeShare is how many agents fill the store: what one of them wrote takes no
	// more than that part of either.
	storeShare = 4
)

var errFull = errors.New("the data sets of this platform, or this agent's share of them, are full")

// store keeps the files of the data sets that have no server, for one boot. Each
// has the labels of the instance that wrote it, as they were when it did.
type store struct {
	mu    sync.Mutex        // guards what follows
	files map[string]stored // by SET/PATH
	size  int
}

type stored struct {
	agent  string // whose share it takes
	body   []byte
	labels []string
}

// put writes an agent's file, in the place of the one before.
func (s *store) put(agent, set, path string, body []byte, labels []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := set + "/" + path
	old, replaces := s.files[key]
	size := s.size - len(old.body) + len(body)
	ownSize, ownFiles := len(body), 1
	for k, f := range s.files {
		if f.agent == agent && k != key {
			ownSize += len(f.body)
			ownFiles++
		}
	}
	switch {
	case size > maxStore, !replaces && len(s.files) >= maxStored,
		ownSize > maxStore/storeShare, ownFiles > maxStored/storeShare:
		return errFull
	}
	if s.files == nil {
		s.files = map[string]stored{}
	}
	s.files[key], s.size = stored{agent, slices.Clone(body), slices.Clone(labels)}, size
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
