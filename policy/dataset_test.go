package policy

import "testing"

func TestPathsOfDataAreReadInOneWay(t *testing.T) {
	for path, want := range map[string]bool{
		"a": true, "a/b.csv": true, "2026/may,1@x=+-_": true, "A..b": true,
		"": false, "/a": false, "a/": false, "a//b": false, ".": false, "..": false, "a/../b": false, "a/.hidden": false,
		"a b": false, "a%2fb": false, `a\b`: false, "a;b": false, "a?b": false, "ä": false, "a\x00": false, "a\n": false,
	} {
		if PlainPath(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}
