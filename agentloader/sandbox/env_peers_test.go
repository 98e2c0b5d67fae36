package sandbox

import (
	"slices"
	"testing"
)

func TestAnAgentFindsItsPeersInItsEnvironment(t *testing.T) {
	own := map[string]string{"MODE": "x", "A2A_PEERS": "its own"}
	env, err := WithPeers(own, []string{"writer", "my-clerk.v2"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := Env(env, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`A2A_PEERS={"my-clerk.v2":"http://127.0.0.1:3128/a2a/my-clerk.v2/","writer":"http://127.0.0.1:3128/a2a/writer/"}`,
		"A2A_WRITER_URL=http://127.0.0.1:3128/a2a/writer/", "A2A_MY_CLERK_V2_URL=http://127.0.0.1:3128/a2a/my-clerk.v2/", "MODE=x",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("no %s in %q", want, list)
		}
	}
	if own["A2A_PEERS"] != "its own" {
		t.Error("the bundle's own variables were changed")
	}
	if env, err := WithPeers(nil, nil); err != nil || env != nil {
		t.Errorf("%v %v: who has no peers has no such variables", env, err)
	}
}
