package main

import "testing"

func TestRowsOfMessagesBetweenAgentsNeedEveryFigure(t *testing.T) {
	m := map[string][]float64{}
	for _, size := range []string{"64", "4096", "65536", "1048576"} {
		m["PeerGateway/"+size+" p50-ns"] = []float64{300, 100, 200}
		m["PeerProxy/"+size+" p50-ns"] = []float64{400}
		m["PeerFloor/"+size+" p50-ns"] = []float64{50}
	}
	rows, err := peerRows(m)
	if err != nil || len(rows) != 8 || rows[0].Ours != 200 || *rows[0].Ratio != 0.5 || *rows[1].Ratio != 4 {
		t.Errorf("%+v %v", rows, err)
	}
	m["TalkGateway p50-ns-64"] = []float64{600}
	if _, err := peerRows(m); err == nil {
		t.Error("sandboxes without their reference")
	}
	m["TalkNetwork p50-ns-64"] = []float64{300}
	if rows, err := peerRows(m); err != nil || len(rows) != 9 || *rows[0].Ratio != 2 {
		t.Errorf("%+v %v", rows, err)
	}
	delete(m, "PeerFloor/65536 p50-ns")
	if _, err := peerRows(m); err == nil {
		t.Error("a figure is missing and nobody says so")
	}
}
