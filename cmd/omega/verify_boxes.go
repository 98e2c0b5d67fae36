package main

import (
	"fmt"
	"strings"
	"unicode"

	"omega/attest"
	"omega/attest/snp"
)

// columns are the principals above the platform: who vouches for what. A row
// is a left box, a middle one and a right one; those at the sides may be nil.
func (v *verification) columns() (left, middle, right []*pictureBox) {
	side := func(x int, title, status string, lines ...string) *pictureBox {
		return newBox(x, 280, title, status, lines)
	}
	centre := func(title, status string, lines ...string) *pictureBox {
		return newBox(320, 360, title, status, lines)
	}
	root := centre("AMD", v.status("signature"), "vouches, by its root key, that the key of this chip is a secure processor's")
	if v.emulated() {
		title, status := "Emulated PSP, accepted by you", attest.NotProven
		if v.status("signature") != attest.Proven {
			title, status = "Emulated PSP, not accepted", attest.Failed
		}
		root = centre(title, status, "its root key stands where AMD's would; no hardware vouches for anything below")
	}
	chip := centre("Secure processor", v.status(chipChecks()...),
		"vouches for what was launched, and for the claims that it signed: "+v.found("signature", "no valid report"))
	release := side(10, "Release", v.status("manifest", "measurement", "profile", "svn", "expiry"),
		"vouches for which launch digests are good, by the manifest:", v.Manifest)
	if !v.ManifestSigned {
		release.say(true, "nobody signed it")
	}
	host := side(710, "Host", v.resting("host_data"), "chose the launch config: disks, network, deployments", "bound at launch only if HOST_DATA says so")
	platform := centre("Platform: the measured image", v.resting("measurement", "report_data"),
		"vouches for the claims of this boot, for each agent that it admits, and for the head of its log")
	you := side(10, "You", v.resting("nonce", "tls_key"), "asked with a fresh nonce; the answer and your connection must be this platform's")
	operator := side(710, "Operator", v.resting("policy"), "vouches for the agent policy, measured with the image:", cut(v.found("policy", "no claim"), 30))
	return []*pictureBox{nil, you, release}, []*pictureBox{root, chip, platform}, []*pictureBox{nil, host, operator}
}

// emulated reports whether the report calls itself an emulated PSP's.
func (v *verification) emulated() bool {
	if v.Evidence == nil {
		return false
	}
	r, err := snp.ParseReport(v.Evidence.Report)
	return err == nil && r.FamilyID == snp.EmulatedFamilyID
}

func newBox(x, w int, title, status string, lines []string) *pictureBox {
	b := &pictureBox{X: x, W: w, Title: title, Status: status}
	for _, l := range lines {
		b.say(false, l)
	}
	return b
}

func (v *verification) logBox() *pictureBox {
	return newBox(10, pictureWidth-20, "Provenance log", v.resting("log"),
		[]string{"The platform's log key vouches that these entries, and no others below them, are its log: " + v.found("log", "no valid head")})
}

// unprovenBox is what the picture must not be taken to say.
func (v *verification) unprovenBox() *pictureBox {
	b := newBox(10, pictureWidth-20, "What remains unproven", attest.NotProven, nil)
	for _, c := range v.Checks {
		if c.Status == attest.NotProven {
			b.say(false, fmt.Sprintf("%s: %s", c.Name, c.Words))
		}
	}
	if v.status("signature") != attest.Proven {
		b.say(false, "everything: no valid signature stands below what is shown here")
	}
	return b
}

// clean makes text of strangers safe to look at: what has no shape of its own
// or turns the direction of writing is shown as a replacement character.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// cut shortens text to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// wrap breaks text into lines of at most n characters, at spaces if it can.
func wrap(s string, n int) []string {
	var out []string
	r := []rune(s)
	for len(r) > n {
		at := n
		for i := n; i > n/2; i-- {
			if r[i] == ' ' {
				at = i
				break
			}
		}
		out = append(out, string(r[:at]))
		r = r[at:]
		for len(r) > 0 && r[0] == ' ' {
			r = r[1:]
		}
	}
	return append(out, string(r))
}
