package compile

import "testing"

func TestTry(t *testing.T) {
	o, err := File("testdata/demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(string(o.Rego))
	t.Log(len(o.Wasm), string(o.JSON))
}
