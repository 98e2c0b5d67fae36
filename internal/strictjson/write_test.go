package strictjson

import (
	"encoding/json"
	"testing"
	"time"
)

// loud writes itself, but only where its address is known.
type loud struct{ X string }

func (l *loud) MarshalJSON() ([]byte, error) { return json.Marshal("loud " + l.X) }

// quiet writes itself in every place.
type quiet string

func (q quiet) MarshalText() ([]byte, error) { return []byte("quiet " + string(q)), nil }

type word string

type written struct {
	Z     string          `json:"z"`
	Late  *string         `json:"late,omitempty"`
	List  []written       `json:"list,omitempty"`
	Ptrs  []*written      `json:"ptrs"`
	Raw   json.RawMessage `json:"raw,omitempty"`
	Time  time.Time       `json:"time"`
	Loud  loud            `json:"loud"`
	Louds []loud          `json:"louds,omitempty"`
	LoudP *loud           `json:"loudp,omitempty"`
	Quiet quiet           `json:"quiet,omitempty"`
	Many  []quiet         `json:"many"`
	Word  word            `json:"word,omitempty"`
	Words []word          `json:"words,omitempty"`
	Small float32         `json:"small,omitempty"`
	Num   json.Number     `json:"num,omitempty"`
	Any   any             `json:"any,omitempty"`
	Set   map[word]inner  `json:"set,omitempty"`
	Fixed [2]word         `json:"fixed,omitempty"`
	Skip  string          `json:"-"`
	Plain bool
	None  struct{} `json:"none,omitempty"`
}

// Each of these has something that encoding/json alone can write.
type (
	embedded struct {
		written
		A int
	}
	spelt struct {
		A int `json:"a,string"`
		B int `json:"b"`
	}
	zeroed struct {
		A time.Time `json:"a,omitzero"`
	}
	named struct {
		A int `json:"<"`
		B int `json:"é,omitempty"`
	}
)

func TestStructsAreWrittenAsTheReferenceDoes(t *testing.T) {
	text := "<&>\u2028\"\xff"
	full := written{
		Z: text, Late: &text, Raw: json.RawMessage(`{"b":1,"a":[ ]}`), Time: time.Unix(1, 5), Loud: loud{"a"}, Louds: []loud{{"b"}}, LoudP: &loud{"c"},
		Quiet: "q", Many: []quiet{"r"}, Word: "w", Words: []word{"x", ""}, Small: 0.1, Num: "1.50", Any: map[string]any{"k": loud{"d"}, "j": &loud{"e"}},
		Set: map[word]inner{"b": {}, "a": {}}, Skip: "s", Plain: true,
	}
	outer := full
	outer.List, outer.Ptrs = []written{full, {}}, []*written{nil, &full}
	wrong := full
	wrong.Raw = json.RawMessage(`{`)
	for _, v := range []any{
		written{}, full, outer, &outer, wrong, written{List: []written{}, Ptrs: []*written{}, Raw: json.RawMessage{}, Any: func() {}},
		embedded{written: full}, spelt{1, 2}, zeroed{}, named{1, 2}, loud{"f"}, &loud{"g"}, quiet("h"), recursive{List: []recursive{{}}}, struct{}{},
	} {
		agree(t, v)
	}
}
