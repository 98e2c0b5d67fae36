package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"omega/images"
	"omega/internal/cache"
)

const convertUsage = "--to uki|raw|aws|gcp|azure [--from DIR] [--out DIR] [--json]"

// convertedJSON is what `omega convert --json` prints.
type convertedJSON struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// ukiName is the file that `omega convert --to uki` writes.
const ukiName = "omega.efi"

// cloudProfile is the image with the drivers of the clouds.
const cloudProfile = "cloud"

// runConvert is `omega convert`: a built image in the form in which firmware or
// a cloud boots it.
func runConvert(ctx context.Context, e *env, args []string) error {
	fs := e.flags("convert")
	to := fs.String("to", "", "uki (one EFI program), raw, aws, gcp or azure (a disk with it)")
	from := fs.String("from", "", "folder of the built image (default: build/cloud for a cloud, else build/cpu; built if it is not there)")
	out := fs.String("out", "", "folder for the result (default: the image's own)")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || *to == "" {
		return fmt.Errorf("convert: want %s", convertUsage)
	}
	// A wrong name is told before anything is fetched or written.
	format, err := images.FormatNamed(*to)
	if err != nil && *to != "uki" {
		return fmt.Errorf("convert: %w, and uki", err)
	}
	profile := "cpu"
	if format.Cloud {
		profile = cloudProfile
	}
	dir, err := bootArtifacts(ctx, e, *from, profile)
	if err != nil {
		return err
	}
	if *out == "" {
		*out = dir
	}
	done, err := e.convert(ctx, format, dir, *out)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(done)
	}
	fmt.Fprintf(e.Stdout, "%s %d bytes\n", done.Path, done.Size)
	return nil
}

// convert writes the image in dir in a form, or as a mere program for the zero
// form, into the folder out.
func (e *env) convert(ctx context.Context, f images.Format, dir, out string) (done convertedJSON, err error) {
	if f.Cloud {
		e.warnIfNotForClouds(dir)
	}
	program, err := e.program(ctx, dir)
	if err != nil {
		return done, err
	}
	path := filepath.Join(out, ukiName)
	if f.Name == "" {
		err = images.WriteFile(path, program)
	} else {
		path, err = f.Write(ctx, program, out, e.imageSteps)
	}
	if err != nil {
		return done, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return done, err
	}
	return convertedJSON{path, info.Size()}, nil
}

// warnIfNotForClouds says what an image that the user named cannot do.
func (e *env) warnIfNotForClouds(dir string) {
	config, err := os.ReadFile(images.At(dir).Config)
	if err != nil || !bytes.Contains(config, []byte("\nCONFIG_BLK_DEV_NVME=y\n")) {
		e.sayf("the kernel in %s has no drivers for clouds; `omega build --profile %s` makes one that has", dir, cloudProfile)
	}
}

// program is the image in dir as one EFI program.
func (e *env) program(ctx context.Context, dir string) ([]byte, error) {
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
