package bundle

import (
	"strings"
	"testing"
)

func TestServerBundlesSayWhatTheySpeak(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, test := range []struct {
		name, more, want string
	}{
		{"no server", ``, ""},
		{"stdio", `,"server":{"transport":"stdio"}`, ""},
		{"another transport", `,"server":{"transport":"sse"}`, "server transport"},
		{"none named", `,"server":{"transport":""}`, "server transport"},
		{"started again by itself", `,"server":{"transport":"stdio"},"restart":{"when":"always","max":3}`, "restart beside server"},
		{"more than is known", `,"server":{"transport":"stdio","shared":true}`, "shared"},
	} {
		text := `{"version":"omega/agent/v1","name":"files","image":{"digest":"` + digest + `","size":9},"command":["/s"],"env":{},"tools":[],` +
			`"models":[],"limits":{"memory_bytes":0,"cpu_millis":0,"processes":0},"model":null,"adapters":[],"peers":[]` + test.more + `}`
		m, err := ParseManifest([]byte(text))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case test.want == "" && (m.Server != nil) != (test.more != ""):
			t.Errorf("%s: server %v", test.name, m.Server)
		}
	}
}
