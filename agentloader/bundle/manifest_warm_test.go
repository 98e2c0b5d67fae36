package bundle

import "testing"

func TestWarmAgents(t *testing.T) {
	serve := &Serve{Port: 8080}
	tests := []struct {
		name string
		m    Manifest
		ok   bool
	}{
		{"none said", Manifest{}, true},
		{"one", Manifest{Warm: &Warm{Spares: 1}}, true},
		{"the most", Manifest{Warm: &Warm{Spares: 16}}, true},
		{"none", Manifest{Warm: &Warm{}}, false},
		{"too many", Manifest{Warm: &Warm{Spares: 17}}, false},
		{"fewer than none", Manifest{Warm: &Warm{Spares: -1}}, false},
		{"ahead, and asked over a port", Manifest{Warm: &Warm{Spares: 1, Ahead: true}, Serve: serve}, true},
		{"ahead, and never asked", Manifest{Warm: &Warm{Spares: 1, Ahead: true}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.m.checkWarm(); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}
