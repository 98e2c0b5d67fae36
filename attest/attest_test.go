package attest

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/membound"
)

func sample() *Evidence {
	c := []Component{{Kind: "image", Name: "demo", Digest: Bytes32{1}, Role: "author", Principal: "ann", Signatures: []Signature{{Key: []byte{1}, Payload: []byte{2}, Sig: []byte{3}}}, Salt: Bytes16{2}}}
	return &Evidence{
		Version: EvidenceVersion, Report: []byte{1}, Certificates: []byte{2},
		Boot:    BootClaims{Version: BootVersion, BootID: Bytes16{1}, LogOrigin: "omega/x", Profile: "cpu", SVN: 1, GPU: GPUAbsent},
		Session: Session{Version: SessionVersion, NonceRoot: Nonces{{3}}.Root(), NonceCount: 1, Checkpoint: []byte("note"), AgentCount: 1},
		Nonce:   NonceProof{Nonce: Bytes32{3}, Path: []Bytes32{}},
		Agents:  []Agent{{Instance: "a", State: AgentRunning, Name: "demo", Bundle: Bytes32{4}, Salt: Bytes16{5}, Identity: IdentityRoot(c), Components: c}},
	}
}

func TestEvidenceSurvivesItsJSON(t *testing.T) {
	want := sample()
	b, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMalformedEvidenceIsRefused(t *testing.T) {
	b, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	tests := map[string]string{
		"nothing":             "",
		"trailing bytes":      good + "{}",
		"an unknown field":    `{"x":1,` + good[1:],
		"a key twice":         `{"version":"omega/evidence/v1",` + good[1:],
		"another version":     strings.Replace(good, EvidenceVersion, "omega/evidence/v2", 1),
		"other boot claims":   strings.Replace(good, BootVersion, "omega/boot/v2", 1),
		"another session":     strings.Replace(good, SessionVersion, "omega/session/v2", 1),
		"an unknown state":    strings.Replace(good, `"running"`, `"sleeping"`, 1),
		"upper-case hex":      strings.Replace(good, strings.Repeat("0", 10), strings.Repeat("A", 10), 1),
		"a short nonce":       strings.Replace(good, `"nonce":"03`, `"nonce":"`, 1),
		"a control character": strings.Replace(good, `"name":"demo"`, `"name":"de\u001bmo"`, 1),
		"a reversed name":     strings.Replace(good, `"name":"demo"`, `"name":"de\u202emo"`, 1),
		"no report":           strings.Replace(good, `"report":"AQ=="`, `"report":""`, 1),
		"a long report":       strings.Replace(good, `"report":"AQ=="`, `"report":"`+strings.Repeat("AAAA", 2000)+`"`, 1),
		"a long name":         strings.Replace(good, `"name":"demo"`, `"name":"`+strings.Repeat("a", 300)+`"`, 1),
		"too much":            good + strings.Repeat(" ", MaxEvidence),
		"negative count":      strings.Replace(good, `"agent_count":1`, `"agent_count":-1`, 1),
	}
	for name, text := range tests {
		if text == good {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, err := ParseEvidence([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	many := sample()
	many.Agents = make([]Agent, MaxAgents+1)
	if _, err := many.Marshal(); err == nil {
		t.Error("too many agents: written")
	}
}

// TestEveryFieldIsBound changes each field of the claims by reflection, so that
// a new field that the digest forgets fails here.
func TestEveryFieldIsBound(t *testing.T) {
	for name, digest := range map[string]func() (any, func() [32]byte){
		"boot claims": func() (any, func() [32]byte) { c := sample().Boot; return &c, c.Digest },
		"session":     func() (any, func() [32]byte) { s := sample().Session; return &s, s.Digest },
		"agent":       func() (any, func() [32]byte) { a := sample().Agents[0]; return &a, func() [32]byte { return a.Leaf() } },
		"invocation": func() (any, func() [32]byte) {
			i := Invocation{Labels: []string{"a"}}
			return &i, func() [32]byte { m := i.Message(); return [32]byte(m[:32]) }
		},
		"component": func() (any, func() [32]byte) {
			c := sample().Agents[0].Components[0]
			return &c, func() [32]byte { return c.Commitment() }
		},
	} {
		ptr, _ := digest()
		for i := range reflect.TypeOf(ptr).Elem().NumField() {
			field := reflect.TypeOf(ptr).Elem().Field(i).Name
			if field == "Components" { // bound by Identity
				continue
			}
			v, sum := digest()
			before := sum()
			change(t, reflect.ValueOf(v).Elem().Field(i))
			if sum() == before {
				t.Errorf("%s: %s is not bound", name, field)
			}
		}
	}
}

func change(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Array:
		e := v.Index(v.Len() - 1)
		e.SetUint(e.Uint() ^ 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("field of kind %s", v.Kind())
	}
}

func TestReportDataDependsOnBothHalvesAndTheirOrder(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	if ReportData(a, b) == ReportData(b, a) || ReportData(a, b) == ReportData(a, a) {
		t.Error("different halves give one REPORT_DATA")
	}
}

func TestOrderOfAgentsAndComponentsIsBound(t *testing.T) {
	x, y := Agent{Instance: "x"}, Agent{Instance: "y"}
	if AgentsRoot([]Agent{x, y}) == AgentsRoot([]Agent{y, x}) || AgentsRoot(nil) == AgentsRoot([]Agent{{}}) {
		t.Error("different sets of agents have one root")
	}
	c, d := Component{Name: "c"}, Component{Name: "d"}
	if IdentityRoot([]Component{c, d}) == IdentityRoot([]Component{d, c}) {
		t.Error("different components give one identity")
	}
}

const goodManifest = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"kernel","digest":{"sha256":"%064d"}}],` +
	`"predicateType":"https://omega.invalid/release/v1","predicate":{"profile":"cpu","svn":1,"expires":"2030-01-01T00:00:00Z",` +
	`"policy_digest":"%064x","cmdline":"quiet","launch_digests":[{"ovmf":"%064d","vcpus":2,"cpu":"EPYC-Milan","guest_features":"0x1","digest":"%096x"}],` +
	`"go":"go1.26","source":{}}}`

func TestManifestsAreReadWholeOrNotAtAll(t *testing.T) {
	good := fmt.Sprintf(goodManifest, 0, 7, 0, 9)
	m, err := ParseManifest([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if l := m.Launch([48]byte{47: 9}); l == nil || l.VCPUs != 2 {
		t.Errorf("launch is %+v", l)
	}
	if m.Launch([48]byte{}) != nil {
		t.Error("an unknown measurement is found")
	}
	for name, replace := range map[string][2]string{
		"another type":      {"Statement/v1", "Statement/v2"},
		"another predicate": {"release/v1", "release/v2"},
		"no profile":        {`"cpu","svn"`, `"","svn"`},
		"no SVN":            {`"svn":1`, `"svn":0`},
		"no expiry":         {`"expires":"2030-01-01T00:00:00Z",`, ``},
		"no policy":         {fmt.Sprintf("%064x", 7), fmt.Sprintf("%064x", 0)},
		"no launch digest":  {fmt.Sprintf("%096x", 9), fmt.Sprintf("%096x", 0)},
		"no CPU":            {"EPYC-Milan", ""},
		"an unknown field":  {`"svn":1`, `"svn":1,"only_for":"x"`},
		"no artifact":       {fmt.Sprintf(`{"name":"kernel","digest":{"sha256":"%064d"}}`, 0), ""},
	} {
		text := strings.Replace(good, replace[0], replace[1], 1)
		if text == good {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, err := ParseManifest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseEvidence(f *testing.F) {
	b, err := sample().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	v := published(f)
	for _, e := range []*Evidence{v.Evidence, v.Opening} {
		b, err := e.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseEvidence(b) })
		e, err := ParseEvidence(b)
		if err != nil {
			return
		}
		once, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEvidence(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Marshal(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("writing is not stable: %v", err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(goodManifest, 0, 7, 0, 9)))
	f.Fuzz(func(t *testing.T, b []byte) { membound.Check(t, b, func() { _, _ = ParseManifest(b) }) })
}

// TestWhatIsHostileTakesNoMoreMemoryThanTheBounds makes evidence of many small
// values, the worst that a text of a size can do.
func TestWhatIsHostileTakesNoMoreMemoryThanTheBounds(t *testing.T) {
	many := func(open, one, end string) string {
		n := (MaxEvidence - len(open) - len(end)) / len(one)
		return open + strings.Repeat(one, n-1) + strings.TrimSuffix(one, ",") + end
	}
	components := `{"components":[` + strings.Repeat("{},", 63) + `{}]},`
	for name, text := range map[string]string{
		"agents":            many(`{"agents":[`, `{},`, `]}`),
		"components":        many(`{"agents":[{"components":[`, `{},`, `]}]}`),
		"agents with parts": `{"agents":[` + strings.Repeat(components, 1023) + strings.TrimSuffix(components, ",") + `]}`,
		"signatures":        many(`{"agents":[{"components":[{"signatures":[`, `{},`, `]}]}]}`),
		"a path":            many(`{"agent_path":[`, `"`+Bytes32{}.String()+`",`, `]}`),
		"numbers":           many(`{"agents":[`, `1,`, `]}`),
		"depth":             strings.Repeat("[", MaxEvidence),
		"escapes":           many(`{"version":"`, `\u0041`, `"}`),
		"keys":              many(`{`, `"a":1,`, `}`),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ParseEvidence([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 8*MaxEvidence {
			t.Errorf("%s: %d MiB for a text of %d KiB", name, took>>20, len(text)>>10)
		}
	}
}
