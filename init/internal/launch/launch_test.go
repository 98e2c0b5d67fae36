package launch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const good = `{"version":"omega/launch/v1","network":{"dhcp":true},"registry":{"mirror":"http://10.0.2.2:5000"},` +
	`"dial":{"files.example:443":"10.0.2.2:7001"},"deployments":[{"payload":"e30="}]}`

func TestParseReadsAGoodConfig(t *testing.T) {
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Network.DHCP || c.Registry.Mirror != "http://10.0.2.2:5000" || c.Dial["files.example:443"] != "10.0.2.2:7001" {
		t.Errorf("read %+v", c)
	}
	if len(c.Deployments) != 1 || string(c.Deployments[0]) != `{"payload":"e30="}` {
		t.Errorf("deployments %s", c.Deployments)
	}
	if _, err := Parse([]byte(`{"version":"omega/launch/v1"}`)); err != nil {
		t.Errorf("the smallest config: %v", err)
	}
}

func TestParseRefusesWhatIsNotExactlyAConfig(t *testing.T) {
	many := func(n int, item func(int) string) string {
		var parts []string
		for i := range n {
			parts = append(parts, item(i))
		}
		return strings.Join(parts, ",")
	}
	body := func(s string) string { return `{"version":"omega/launch/v1",` + s + `}` }
	tests := []struct{ name, text string }{
		{"nothing", ``},
		{"not an object", `[]`},
		{"no version", `{}`},
		{"another version", `{"version":"omega/launch/v2"}`},
		{"an unknown field", body(`"debug":true`)},
		{"a duplicate key", body(`"dial":{},"dial":{}`)},
		{"trailing bytes", good + `{}`},
		{"NUL after the text", good + "\x00"},
		{"invalid UTF-8", body("\"registry\":{\"mirror\":\"http://\xff\"}")},
		{"a mirror that is a file", body(`"registry":{"mirror":"file:///etc/omega"}`)},
		{"a mirror with credentials", body(`"registry":{"mirror":"http://me:pw@10.0.2.2"}`)},
		{"a mirror with a query", body(`"registry":{"mirror":"http://10.0.2.2?x=1"}`)},
		{"a mirror with a path", body(`"registry":{"mirror":"http://10.0.2.2/v2"}`)},
		{"a mirror without host", body(`"registry":{"mirror":"http://"}`)},
		{"dial from no port", body(`"dial":{"files.example":"10.0.2.2:1"}`)},
		{"dial from port 0", body(`"dial":{"files.example:0":"10.0.2.2:1"}`)},
		{"dial to a name", body(`"dial":{"files.example:443":"other.example:443"}`)},
		{"dial to port 0", body(`"dial":{"files.example:443":"10.0.2.2:0"}`)},
		{"a deployment that is text", body(`"deployments":["x"]`)},
		{"a release that is text", body(`"releases":["x"]`)},
		{"too many releases", body(`"releases":[` + many(maxReleases+1, func(int) string { return `{}` }) + `]`)},
		{"a deployment that is null", body(`"deployments":[null]`)},
		{"too many deployments", body(`"deployments":[` + many(maxDeployments+1, func(int) string { return `{}` }) + `]`)},
		{"too many routes", body(`"dial":{` + many(maxDial+1, func(i int) string { return fmt.Sprintf(`"h%d:1":"10.0.2.2:1"`, i) }) + `}`)},
		{"too large", body(`"dial":{}` + strings.Repeat(" ", MaxConfig))},
		{"too deep", body(`"deployments":[{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}]`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if c, err := Parse([]byte(tt.text)); err == nil {
				t.Errorf("accepted as %+v", c)
			}
		})
	}
}

// disk is a framed config, padded to whole sectors.
func disk(n uint32, text string) []byte {
	b := binary.BigEndian.AppendUint32([]byte(Magic), n)
	b = append(b, text...)
	return append(b, make([]byte, 512-len(b)%512)...)
}

func TestReadFrameTakesTheTextAndNothingElse(t *testing.T) {
	got, err := ReadFrame(bytes.NewReader(disk(uint32(len(good)), good)))
	if err != nil || string(got) != good {
		t.Fatalf("%q, %v", got, err)
	}
	tests := []struct {
		name string
		disk []byte
	}{
		{"an empty disk", nil},
		{"zeros", make([]byte, 512)},
		{"another magic", append([]byte("OMEGACFX"), disk(2, "{}")[8:]...)},
		{"no text", disk(0, "")},
		{"a length beyond the bound", disk(MaxConfig+1, strings.Repeat(" ", MaxConfig+1))},
		{"a length beyond the disk", disk(MaxConfig, good)},
		{"a frame cut short", []byte("OMEGACFG\x00\x00")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadFrame(bytes.NewReader(tt.disk)); !errors.Is(err, ErrFrame) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":"omega/launch/v1","deployments":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		if c.Version != Version || len(c.Deployments) > maxDeployments || len(b) > MaxConfig {
			t.Errorf("accepted %q", b)
		}
	})
}
