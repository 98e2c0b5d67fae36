package main

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"omega/attest/measure"
)

// pcrUsage is the one line of `omega measure pcr`'s arguments.
const pcrUsage = "pcr [--boot disk|direct] [--events] [--json] UKI"

// maxUKIFile bounds a UKI; PE images end at 4 GiB.
const maxUKIFile = 2 << 30

// pcrBanks are the banks that a prediction is printed for.
var pcrBanks = []struct {
	name string
	hash crypto.Hash
}{{"sha256", crypto.SHA256}, {"sha384", crypto.SHA384}}

// pcrJSON is a prediction as `omega measure pcr --json` prints it.
type pcrJSON struct {
	Boot         measure.Boot              `json:"boot"`
	Stub         string                    `json:"stub"`
	Authentihash map[string]string         `json:"authentihash"` // by bank
	PCRs         map[string]map[int]string `json:"pcrs"`         // by bank and register
}

// runMeasurePCR is `omega measure pcr`: what a TPM will hold of a UKI.
func runMeasurePCR(e *env, args []string) error {
	fs := e.flags("measure")
	boot := fs.String("boot", "", "disk or direct (default: both)")
	events := fs.Bool("events", false, "print every event of each register as well")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("measure: want %s", pcrUsage)
	}
	uki, err := readBounded(rest[0], maxUKIFile)
	if err != nil {
		return err
	}
	boots := []measure.Boot{measure.DiskBoot, measure.DirectBoot}
	if *boot != "" {
		boots = []measure.Boot{measure.Boot(*boot)}
	}
	var list []pcrJSON
	for _, b := range boots {
		out, err := e.predictPCRs(uki, b, *events && !*asJSON, !*asJSON)
		if *boot == "" && errors.Is(err, measure.ErrKernelHandedOver) {
			e.sayf("no prediction for %s boot: %v", b, err)
			continue
		}
		if err != nil {
			return err
		}
		list = append(list, out)
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(list)
	}
	return nil
}

// predictPCRs predicts every bank of one way to boot, and prints it for people
// if asked to.
func (e *env) predictPCRs(uki []byte, boot measure.Boot, events, show bool) (pcrJSON, error) {
	out := pcrJSON{Boot: boot, Authentihash: map[string]string{}, PCRs: map[string]map[int]string{}}
	for _, bank := range pcrBanks {
		p, err := measure.PredictPCRs(uki, boot, bank.hash)
		if err != nil {
			return pcrJSON{}, err
		}
		sum, err := measure.Authentihash(uki, bank.hash)
		if err != nil {
			return pcrJSON{}, err
		}
		out.Stub, out.Authentihash[bank.name], out.PCRs[bank.name] = p.Stub, hex.EncodeToString(sum), map[int]string{}
		for _, pcr := range measure.PredictedPCRs {
			value := hex.EncodeToString(p.Value(pcr))
			out.PCRs[bank.name][pcr] = value
			if show {
				fmt.Fprintf(e.Stdout, "%-6s %s PCR %-2d %s\n", boot, bank.name, pcr, value)
			}
			for _, event := range p.Events {
				if events && event.PCR == pcr {
					fmt.Fprintf(e.Stdout, "         %-24s %x\n", event.What, event.Digest)
				}
			}
		}
	}
	return out, nil
}
