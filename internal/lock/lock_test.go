package lock

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const good = `{"version":"omega/lock/v1","entries":[{"name":"tool","kind":"deb","package":"tool","version":"1:2.0+ds-1~bpo12+1","size":3,` +
	`"sha256":"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",` +
	`"members":[{"path":"usr/bin/tool","sha256":"fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"}],` +
	`"providers":[{"kind":"apt","suite":"trixie"}]}]}`

func TestParseReadsAnEntry(t *testing.T) {
	f, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Entry("tool")
	if err != nil {
		t.Fatal(err)
	}
	if e.SHA256.String() != "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" || e.Size != 3 {
		t.Errorf("entry = %+v", e)
	}
	if _, err := e.Member("usr/bin/tool"); err != nil {
		t.Error(err)
	}
	if _, err := e.Member("usr/bin/other"); err == nil {
		t.Error("a member that is not pinned was returned")
	}
	if _, err := f.Entry("other"); err == nil {
		t.Error("an entry that is not there was returned")
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"another version", "omega/lock/v1", "omega/lock/v2", "version"},
		{"an unknown field", `"size":3`, `"size":3,"extra":1`, "unknown field"},
		{"a key twice", `"size":3`, `"size":3,"size":3`, ""},
		{"trailing bytes", `"trixie"}]}]}`, `"trixie"}]}]} {}`, ""},
		{"no digest", `"sha256":"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",`, "", "no sha256"},
		{"a short digest", "2c26b46b", "2c26", "64 lower-case hex digits"},
		{"an upper-case digest", "2c26b46b", "2C26B46B", "64 lower-case hex digits"},
		{"another kind", `"kind":"deb"`, `"kind":"rpm"`, "unknown kind"},
		{"another provider", `"kind":"apt"`, `"kind":"http"`, "unknown provider"},
		{"a suite that is an option", `"suite":"trixie"`, `"suite":"-otrixie"`, "unknown provider"},
		{"a snapshot without a name", `"kind":"apt","suite":"trixie"`, `"kind":"snapshot"`, "unknown provider"},
		{"a snapshot that is a path", `"kind":"apt","suite":"trixie"`, `"kind":"snapshot","sha1":"../../../../../../../../../../etc/passwd"`, "unknown provider"},
		{"a provider of two kinds", `"suite":"trixie"`, `"suite":"trixie","sha1":"5f7c51c2ab8fb7a6d49f2cd774e6ac19a692414d"`, "unknown provider"},
		{"no provider", `[{"kind":"apt","suite":"trixie"}]`, `[]`, "no provider"},
		{"an option as a package", `"package":"tool"`, `"package":"-otool"`, "package"},
		{"a version with a blank", "1:2.0", "1: 2.0", "version"},
		{"no size", `"size":3`, `"size":0`, "out of range"},
		{"a member outside", "usr/bin/tool", "../bin/tool", "clean relative path"},
		{"an absolute member", "usr/bin/tool", "/usr/bin/tool", "clean relative path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.new, 1)
			if text == good {
				t.Fatal("the test changes nothing")
			}
			if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestParseRefusesTheSameNameTwice(t *testing.T) {
	entry := good[strings.Index(good, `[{"name"`)+1 : strings.LastIndex(good, "]")]
	text := strings.Replace(good, entry, entry+","+entry, 1)
	if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v", err)
	}
}

func TestAMismatchNamesBothDigests(t *testing.T) {
	err := &MismatchError{Name: "tool 2.0", Got: Digest{1}, Want: Digest{2}}
	for _, want := range []string{"tool 2.0", Digest{1}.String(), Digest{2}.String()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":"omega/lock/v1","entries":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := Parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Parse(again)
		if err != nil {
			t.Fatalf("what was parsed does not parse again: %v", err)
		}
		// An absent list and an empty one mean the same.
		if got, want := fmt.Sprint(second), fmt.Sprint(first); got != want {
			t.Errorf("second reading %s, first %s", got, want)
		}
	})
}
