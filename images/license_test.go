package images

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const bsd = `Copyright 2009 The Go Authors.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are
met:

   * Redistributions of source code must retain the above copyright
notice, this list of conditions and the following disclaimer.
`

func TestALicenceIsKnownByItsWordsAlone(t *testing.T) {
	other := "Copyright (c) 2031 Somebody Else. All rights reserved.\n\n" + strings.ReplaceAll(strings.TrimPrefix(bsd, "Copyright 2009 The Go Authors.\n"), "\n", " \r\n")
	if diff := cmp.Diff(normalLicense(bsd), normalLicense(other)); diff != "" {
		t.Error(diff)
	}
	for name, changed := range map[string]string{
		"a word more": strings.Replace(bsd, "are permitted", "are not permitted", 1), "a clause less": bsd[:len(bsd)-100],
	} {
		if normalLicense(changed) == normalLicense(bsd) {
			t.Errorf("%s does not show", name)
		}
	}
}

func TestALicenceThatNobodyReadStopsTheBuild(t *testing.T) {
	_, err := classify([]byte("Do what you like, but ask first."))
	expect(t, err, "nobody has classified")
	for key, id := range knownLicenses {
		if len(key) != 64 || id == "" || strings.ToLower(key) != key {
			t.Errorf("%q: %q is not an entry", key, id)
		}
	}
}

func TestTheTextsOfAModuleAreItsLicenceAndItsNotices(t *testing.T) {
	files := map[string]string{
		"LICENSE.md": "the licence", "NOTICE": "the notice", "PATENTS": "the grant", "inner/LICENSE": "of a part",
		"LICENSE.docs": "of the manual", "license.go": "package license", "testdata/LICENSE": "a test",
	}
	dir := t.TempDir()
	for name, text := range files {
		writeAt(t, filepath.Join(dir, name), text)
	}
	got, err := textsIn(dir)
	want := [][2]string{{"LICENSE.md", "the licence"}, {"NOTICE", "the notice"}, {"PATENTS", "the grant"}, {"inner/LICENSE", "of a part"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	_, err = textsIn(t.TempDir())
	expect(t, err, "0 licence files")
	writeAt(t, filepath.Join(dir, "COPYING"), "another")
	_, err = textsIn(dir)
	expect(t, err, "2 licence files")
}
