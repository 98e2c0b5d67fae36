package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"omega/attest"
	"omega/attest/measure"
	"omega/attest/snp"
	"omega/cmd/omega/internal/qemu"
	"omega/images"
)

// familyID names our guests in the ID block, and so in each of their reports.
const familyID = "omega"

// snp makes p an SNP launch, if this host can do one or o only wants to see it.
// It reports false where the guest has to be plain.
func (p *preparedVM) snp(ctx context.Context, e *env, o bootOptions, a *images.Artifacts, in measure.Input) (bool, error) {
	if o.Plain {
		return false, nil
	}
	missing := qemu.ThisHost(ctx, p.binary, p.machine.Firmware, a.OVMF).MissingForSNP()
	words := "this host cannot launch SEV-SNP guests:\n  " + strings.Join(missing, "\n  ")
	switch {
	case len(missing) > 0 && !o.SNP:
		return false, nil
	case len(missing) > 0 && !o.show:
		return false, errors.New(words)
	case len(missing) > 0:
		e.sayf("%s", words)
	}
	launch := &qemu.SNP{OVMF: filepath.Join(p.dir, "ovmf.fd"), CPU: defaultCPU, Policy: uint64(snp.PolicyStrict), HostData: p.launch.HostData}
	if err := signLaunch(launch, o, a, in); err != nil {
		return false, err
	}
	p.accel, p.machine.SNP = qemu.KVM, launch
	return true, nil
}

// signLaunch adds the operator's ID block, if there is a key to sign it with.
// The firmware then starts nothing but this launch.
func signLaunch(launch *qemu.SNP, o bootOptions, a *images.Artifacts, in measure.Input) error {
	if o.IDKey == "" {
		if o.AuthorKey != "" {
			return errors.New("--author-key signs an ID key: give --id-key too")
		}
		return nil
	}
	id, err := readLaunchKey(o.IDKey)
	if err != nil {
		return err
	}
	var author *ecdsa.PrivateKey
	if o.AuthorKey != "" {
		if author, err = readLaunchKey(o.AuthorKey); err != nil {
			return err
		}
	}
	raw, err := readBounded(a.Manifest, maxManifestFile)
	if err != nil {
		return fmt.Errorf("the ID block names the image's SVN: %w", err)
	}
	manifest, err := attest.ParseManifest(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Manifest, err)
	}
	block := measure.IDBlock{GuestSVN: manifest.Predicate.SVN, Policy: launch.Policy}
	copy(block.FamilyID[:], familyID)
	copy(block.ImageID[:], manifest.Predicate.Profile)
	if block.LaunchDigest, err = measure.LaunchDigest(in); err != nil {
		return fmt.Errorf("launch digest: %w", err)
	}
	launch.IDBlock, launch.AuthorKey = block.Bytes(), author != nil
	launch.IDAuth, err = block.Sign(id, author)
	return err
}

// readLaunchKey reads an operator's key: the SNP firmware takes P-384 only.
func readLaunchKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	var key any
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%s: want an ECDSA key on P-384", path)
	}
	return ec, nil
}
