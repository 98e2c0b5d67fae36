package evidence

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// subject is a certificate whose revocation status matters.
type subject struct{ cert, issuer *x509.Certificate }

// subjects are the certificates that NVIDIA answers for: of the GPU's chain all
// but the leaf, which lives as long as a boot, and of the RIMs' chains all; the
// roots are pinned.
func (a *appraisal) subjects() []subject {
	var out []subject
	add := func(chain []*x509.Certificate, first int) {
		for i := first; i+1 < len(chain); i++ {
			if !slices.ContainsFunc(out, func(s subject) bool { return s.cert.Equal(chain[i]) }) {
				out = append(out, subject{chain[i], chain[i+1]})
			}
		}
	}
	add(a.certs, 1)
	for _, r := range a.used {
		add(r.certs, 0)
	}
	return out
}

// checkRevocation verifies the responses that were handed over. A revoked
// certificate is refused whatever the policy says.
func (a *appraisal) checkRevocation(Evidence) error {
	subjects := a.subjects()
	good := 0
	var missing error
	for _, s := range subjects {
		err := a.status(s)
		switch {
		case err == nil:
			good++
		case !errors.Is(err, ErrStale) && !errors.Is(err, ErrCollateral):
			return err
		case missing == nil:
			missing = err
		}
	}
	c := Check{Name: "revocation", Status: NotProven}
	switch {
	case missing == nil:
		c.Status, c.Words = Proven, fmt.Sprintf("none of the %d certificates is revoked", good)
	case a.p.Policy.RequireOCSP:
		return missing
	case len(a.c.ocsp) == 0:
		c.Words = "revocation not checked"
	default:
		c.Words = fmt.Sprintf("revocation checked for %d of %d certificates; first without: %v", good, len(subjects), missing)
	}
	a.r.Checks = append(a.r.Checks, c)
	return nil
}

// status is nil for a certificate that a current response calls good.
func (a *appraisal) status(s subject) error {
	err := fmt.Errorf("%w: no OCSP response for %q", ErrCollateral, s.cert.Subject.CommonName)
	good := false
	for _, o := range a.c.ocsp {
		if !o.about(s.cert, s.issuer) {
			continue
		}
		one := a.judge(o, s)
		switch {
		case one == nil:
			good = true
		case errors.Is(one, ErrStale), errors.Is(one, ErrCollateral):
			err = one
		default:
			return one
		}
	}
	if good {
		return nil
	}
	return err
}

// judge verifies one response and says what it means. An old response counts
// where it says revoked, and its responder had to be valid when it was made.
func (a *appraisal) judge(o *OCSP, s subject) error {
	name := s.cert.Subject.CommonName
	stale := o.current(a.p.Now, a.p.Policy.OCSPMaxAge)
	at := a.p.Now
	if stale != nil {
		at = o.thisUpdate
	}
	if err := o.verify(s.issuer, at); err != nil {
		return err
	}
	switch {
	case o.status == statusRevoked:
		return fmt.Errorf("%w: %q", ErrRevoked, name)
	case stale != nil:
		return fmt.Errorf("OCSP response for %q: %w", name, stale)
	case o.status == statusUnknown:
		return fmt.Errorf("%w: the responder does not know %q", ErrCollateral, name)
	case o.status == statusHold && !a.p.Policy.AllowHold:
		return fmt.Errorf("%w: %q", ErrHold, name)
	case o.status == statusHold:
		a.r.Checks = append(a.r.Checks, Check{Name: "revocation", Status: NotProven, Words: fmt.Sprintf("%q is on hold, which the policy allows", name)})
	}
	return nil
}
