package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"omega/internal/pe"
)

// explainUKI says in which sections two EFI programs differ.
func explainUKI(a, b []byte) ([]string, error) {
	x, err := pe.Parse(a)
	if err != nil {
		return nil, fmt.Errorf("first build: %w", err)
	}
	y, err := pe.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("second build: %w", err)
	}
	names := map[string]bool{}
	for _, img := range []*pe.Image{x, y} {
		for _, s := range img.Sections {
			names[s.Name] = true
		}
	}
	var told []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, err := x.Content(name)
		if err != nil {
			return nil, err
		}
		q, err := y.Content(name)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(p, q) {
			told = append(told, fmt.Sprintf("section %s: %s", name, explainBytes(p, q)))
		}
	}
	return told, nil
}

// explainJSON says under which names two JSON documents differ.
func explainJSON(a, b []byte) ([]string, error) {
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		return nil, fmt.Errorf("first build: %w", err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		return nil, fmt.Errorf("second build: %w", err)
	}
	return compareJSON("", x, y), nil
}

func compareJSON(path string, a, b any) []string {
	var told []string
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		all := maps.Clone(x)
		maps.Copy(all, y)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			told = append(told, compareJSON(path+"/"+k, x[k], y[k])...)
		}
		return told
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			break
		}
		for i := range x {
			told = append(told, compareJSON(fmt.Sprintf("%s/%d", path, i), x[i], y[i])...)
		}
		return told
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	if errX != nil || errY != nil || !bytes.Equal(x, y) {
		told = append(told, fmt.Sprintf("%s: %.100s and %.100s", path, x, y))
	}
	return told
}
