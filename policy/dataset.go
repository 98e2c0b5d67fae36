package policy

import (
	"encoding/hex"
	"strings"
)

// maxFiles bounds the files that a document pins of one data set.
const maxFiles = 4096

// PlainPath says whether a path below a data set is read in one way by everybody:
// parts of letters, digits and a few signs, none of which begins with a dot.
func PlainPath(path string) bool {
	if path == "" || len(path) > 512 {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part[0] == '.' {
			return false
		}
		for i := range len(part) {
			if !strings.Contains(pathLetters, part[i:i+1]) {
				return false
			}
		}
	}
	return true
}

const pathLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=+,@"

func (c *checker) dataset(at string, d Dataset) {
	if d.URL == "" {
		if d.Private || len(d.Files) > 0 || len(d.Secrets) > 0 {
			c.fault(at+".url", "files, secrets and private are of data on a server; without a url, agents write what is there")
		}
		return
	}
	c.url(at+".url", d.URL)
	if strings.HasSuffix(d.URL, "/") {
		c.fault(at+".url", "%q ends in a slash, which each file's path brings", d.URL)
	}
	if len(d.Files) > maxFiles {
		c.fault(at+".files", "%d files, at most %d", len(d.Files), maxFiles)
		return
	}
	for path, sum := range d.Files {
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != 32 || strings.ToLower(sum) != sum || !PlainPath(path) {
			c.fault(at+".files."+path, "want a plain path and the 64 lowercase hex digits of a SHA-256")
		}
	}
	for _, a := range c.doc.Agents {
		for _, p := range a.Permits {
			for _, name := range p.Names() {
				if len(d.Files) > 0 && p.Action == ActionDataWrite && name == d.Name {
					c.fault(at+".files", "permit %s of %s writes to it, and its files have the digests that are named", p.ID, a.Name)
				}
			}
		}
	}
}
