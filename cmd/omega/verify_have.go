package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"omega/attest"
	"omega/attest/verifier"
	"omega/internal/strictjson"
)

// memoryVersion is the format of the file of --have.
const memoryVersion = "omega/verified/v1"

const (
	maxMemory    = 16 << 20
	maxPlatforms = 64
)

// memory is what is remembered of the platforms that were appraised.
type memory struct {
	Version   string             `json:"version"`
	Platforms []rememberedSource `json:"platforms"`

	path, source string
}

// rememberedSource is a platform and where it was found. The address decides
// nothing but whether the platform is asked with what is known.
type rememberedSource struct {
	Source string         `json:"source"`
	Known  verifier.Known `json:"known"`
}

// parseMemory reads the file strictly and drops what has expired.
func parseMemory(b []byte, now time.Time) (*memory, error) {
	m := &memory{}
	if err := strictjson.Decode(b, m, strictjson.Limits{MaxBytes: maxMemory, MaxValues: 512 << 10}); err != nil {
		return nil, err
	}
	if m.Version != memoryVersion || len(m.Platforms) > maxPlatforms {
		return nil, fmt.Errorf("version %.40q with %d platforms", m.Version, len(m.Platforms))
	}
	for i := range m.Platforms {
		if err := m.Platforms[i].Known.Validate(); err != nil {
			return nil, fmt.Errorf("platform %d: %w", i, err)
		}
	}
	m.Platforms = slices.DeleteFunc(m.Platforms, func(r rememberedSource) bool { return !now.Before(r.Known.Expires) })
	return m, nil
}

// recall reads what is remembered of the platform, if it was appraised by the
// same policy and not too long ago, and gives it to the appraisal.
func (o *verifyOptions) recall(p *verifier.Params) (*memory, error) {
	if o.Have == "" {
		return nil, nil
	}
	m := &memory{Version: memoryVersion}
	b, err := readBounded(o.Have, maxMemory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if m, err = parseMemory(b, p.Now); err != nil {
			return nil, fmt.Errorf("%s: %w; remove it to begin anew", o.Have, err)
		}
	}
	m.path, m.source = o.Have, o.Source
	if o.CRL { // the list is about the report's chain, so the report is asked for
		return m, nil
	}
	digest, err := p.Digest()
	if err != nil {
		return nil, err
	}
	for i := range m.Platforms {
		if r := &m.Platforms[i]; r.Source == o.Source && r.Known.Policy == digest {
			p.Known = &r.Known
		}
	}
	return m, nil
}

// keep writes the file with what this appraisal leaves behind, in one step.
func (m *memory) keep(e *attest.Evidence, r *attest.Result, p *verifier.Params) error {
	if m == nil || e.Partial() {
		return nil
	}
	known, err := verifier.Remember(e, r, *p)
	if err != nil {
		return err
	}
	m.Platforms = slices.DeleteFunc(m.Platforms, func(r rememberedSource) bool {
		return r.Source == m.source && r.Known.Policy == known.Policy || r.Known.Boot == known.Boot && r.Known.Policy == known.Policy
	})
	m.Platforms = append(m.Platforms, rememberedSource{m.source, *known})
	if len(m.Platforms) > maxPlatforms {
		m.Platforms = m.Platforms[len(m.Platforms)-maxPlatforms:]
	}
	b, err := strictjson.Canonical(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	if err := replaceFile(m.path, b); err != nil {
		return err
	}
	return os.Chmod(m.path, 0o600) // whom one verifies is nobody else's business
}
