// Package launch reads the launch config: the one thing the host tells the
// guest at boot. It is untrusted; being well-formed earns it nothing but being
// acted on within what the measured policy allows. The bytes lie on a raw disk
// behind a short frame.
package launch

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"omega/internal/strictjson"
)

// Version is the launch config's version field.
const Version = "omega/launch/v1"

const (
	// MaxConfig bounds the JSON text (DESIGN section 5).
	MaxConfig = 64 << 10
	// maxDeployments bounds the deployments of one config.
	maxDeployments = 256
	// maxReleases bounds the manifests of peers.
	maxReleases = 16
	// maxDial bounds the routing table.
	maxDial = 256
)

// Magic begins a config disk; a big-endian u32 length and the text follow.
const Magic = "OMEGACFG"

// ErrFrame reports a disk that does not begin as a config disk does.
var ErrFrame = errors.New("launch config disk has no valid frame")

// ReadFrame reads the text from a config disk.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [len(Magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	n := binary.BigEndian.Uint32(head[len(Magic):])
	if string(head[:len(Magic)]) != Magic || n == 0 || n > MaxConfig {
		return nil, ErrFrame
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return text, nil
}

// Config is a well-formed launch config.
type Config struct {
	Version     string            `json:"version"`
	Network     Network           `json:"network"`
	Registry    Registry          `json:"registry"`
	Dial        map[string]string `json:"dial"`
	Deployments []json.RawMessage `json:"deployments"`
	// Releases are signed release manifests of platforms that this one may talk
	// to, in DSSE envelopes.
	Releases []json.RawMessage `json:"releases"`
	// Revocations is a signed revocation list in its DSSE envelope.
	Revocations json.RawMessage `json:"revocations,omitempty"`
}

// Network says how the guest gets its address.
type Network struct {
	DHCP bool `json:"dhcp"`
}

// Registry says where bundles come from.
type Registry struct {
	// Mirror is the base URL that stands in for every registry; empty for none.
	Mirror string `json:"mirror"`
}

// Parse reads the JSON text. Fields may be left out; what is there must hold.
func Parse(text []byte) (*Config, error) {
	c := new(Config)
	if err := strictjson.Decode(text, c, strictjson.Limits{MaxBytes: MaxConfig}); err != nil {
		return nil, fmt.Errorf("launch config: %w", err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("launch config: %w", err)
	}
	return c, nil
}

func (c *Config) validate() error {
	switch {
	case c.Version != Version:
		return fmt.Errorf("version %.40q, want %q", c.Version, Version)
	case len(c.Deployments) > maxDeployments:
		return fmt.Errorf("%d deployments are more than %d", len(c.Deployments), maxDeployments)
	case len(c.Releases) > maxReleases:
		return fmt.Errorf("%d releases are more than %d", len(c.Releases), maxReleases)
	case len(c.Dial) > maxDial:
		return fmt.Errorf("%d dial entries are more than %d", len(c.Dial), maxDial)
	}
	if err := c.Registry.validate(); err != nil {
		return err
	}
	for from, to := range c.Dial {
		if err := validRoute(from, to); err != nil {
			return err
		}
	}
	if err := objects("deployment", c.Deployments); err != nil {
		return err
	}
	if len(c.Revocations) > 0 && c.Revocations[0] != '{' {
		return errors.New("revocations are not an object")
	}
	return objects("release", c.Releases)
}

func objects(name string, list []json.RawMessage) error {
	for i, d := range list {
		if len(d) == 0 || d[0] != '{' {
			return fmt.Errorf("%s %d is not an object", name, i)
		}
	}
	return nil
}

func (r *Registry) validate() error {
	if r.Mirror == "" {
		return nil
	}
	u, err := url.Parse(r.Mirror)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("registry mirror %.80q is not an http(s) URL", r.Mirror)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("registry mirror has more than scheme and host")
	}
	return nil
}

// validRoute checks one entry of dial: a name and port, and the address that
// stands in for it.
func validRoute(from, to string) error {
	host, port, err := net.SplitHostPort(from)
	if err != nil || host == "" || !validPort(port) || len(from) > 300 {
		return fmt.Errorf("dial entry %.80q is not host:port", from)
	}
	addr, err := netip.ParseAddrPort(to)
	if err != nil || addr.Port() == 0 {
		return fmt.Errorf("dial target %.80q is not ip:port", to)
	}
	return nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
