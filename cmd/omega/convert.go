package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"omega/images"
	"omega/internal/cache"
)

const convertUsage = "--to uki|raw|aws|gcp|azure [--from DIR] [--out DIR]"

// ukiName is the file that `omega convert --to uki` writes.
const ukiName = "omega.efi"

// runConvert is `omega convert`: a built image in the form in which firmware or
// a cloud boots it.
func runConvert(ctx context.Context, e *env, args []string) error {
	fs := e.flags("convert")
	to := fs.String("to", "", "uki (one EFI program), raw, aws, gcp or azure (a disk with it)")
	from := fs.String("from", "", "folder of the built image (default build/cpu in the source tree)")
	out := fs.String("out", "", "folder for the result (default: the image's own)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || *to == "" {
		return fmt.Errorf("omega convert: want %s", convertUsage)
	}
	// A wrong name is told before anything is fetched or written.
	format, err := images.FormatNamed(*to)
	if err != nil && *to != "uki" {
		return fmt.Errorf("omega convert: %w, and uki", err)
	}
	if *from == "" {
		source, err := sourceRoot()
		if err != nil {
			return err
		}
		*from = filepath.Join(source, "build", "cpu")
	}
	if *out == "" {
		*out = *from
	}
	uki, err := e.uki(ctx, *from)
	if err != nil {
		return err
	}
	path := filepath.Join(*out, ukiName)
	if *to == "uki" {
		err = images.WriteFile(path, uki)
	} else {
		path, err = format.Write(ctx, uki, *out, e.imageSteps)
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "%s %d bytes\n", path, info.Size())
	return nil
}

// uki assembles the image in dir.
func (e *env) uki(ctx context.Context, dir string) ([]byte, error) {
	a := images.At(dir)
	for _, path := range []string{a.Kernel, a.Initrd, a.Cmdline} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: no image is built there; `omega build` makes one", dir)
		}
	}
	c, err := cache.Open("")
	if err != nil {
		return nil, err
	}
	return images.UKI(ctx, c, e.imageSteps, a)
}
