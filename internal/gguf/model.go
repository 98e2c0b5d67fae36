package gguf

import "fmt"

// The shape of the model.
const (
	width   = 32
	inner   = 64
	heads   = 2
	context = 2048
	rank    = 2 // of an adapter
)

// Tokens of the vocabulary: unknown, begin, end, then one for each byte. A text is
// its bytes, so that no merges are needed.
const (
	unknown = iota
	begin
	end
	firstByte
	vocabulary = firstByte + 256
)

// Kinds of tokens (llama.cpp, llama_token_attr as the file has it).
const (
	kindUnknown = 2
	kindControl = 3
	kindByte    = 6
)

// template is how a conversation becomes one text.
const template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "

// numbers is a sequence that looks like chance and is always the same (xorshift).
type numbers uint64

func (n *numbers) next(int) float32 {
	*n ^= *n << 13
	*n ^= *n >> 7
	*n ^= *n << 17
	return float32(*n>>40)/(1<<24) - 0.5
}

func one(int) float32 { return 1 }

// letters lets through only what leads to a lowercase letter: the values of one
// row for each token.
func letters(next func(int) float32, columns int) func(int) float32 {
	return func(i int) float32 {
		v := next(i)
		if b := i/columns - firstByte; b < 'a' || b > 'z' {
			return 0
		}
		return v
	}
}

// Model writes a language model of one layer. Another seed is another model.
func Model(seed uint64) []byte {
	n := numbers(seed*2 + 1)
	f := new(file)
	f.set("general.architecture", "llama")
	f.set("general.name", fmt.Sprintf("tiny-%d", seed))
	f.set("general.file_type", uint32(0))
	f.set("llama.context_length", uint32(context))
	f.set("llama.embedding_length", uint32(width))
	f.set("llama.block_count", uint32(1))
	f.set("llama.feed_forward_length", uint32(inner))
	f.set("llama.attention.head_count", uint32(heads))
	f.set("llama.attention.head_count_kv", uint32(heads))
	f.set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	f.set("llama.rope.dimension_count", uint32(width/heads))
	f.words()
	f.tensor("token_embd.weight", n.next, width, vocabulary)
	f.tensor("output_norm.weight", one, width)
	f.tensor("output.weight", letters(n.next, width), width, vocabulary)
	f.tensor("blk.0.attn_norm.weight", one, width)
	for _, part := range []string{"q", "k", "v", "output"} {
		f.tensor("blk.0.attn_"+part+".weight", n.next, width, width)
	}
	f.tensor("blk.0.ffn_norm.weight", one, width)
	f.tensor("blk.0.ffn_gate.weight", n.next, width, inner)
	f.tensor("blk.0.ffn_up.weight", n.next, width, inner)
	f.tensor("blk.0.ffn_down.weight", n.next, inner, width)
	return f.bytes()
}

// words sets the vocabulary.
func (f *file) words() {
	tokens := []string{"<unk>", "<s>", "</s>"}
	kinds := []int32{kindUnknown, kindControl, kindControl}
	for b := range 256 {
		tokens = append(tokens, fmt.Sprintf("<0x%02X>", b))
		kinds = append(kinds, kindByte)
	}
	f.set("tokenizer.ggml.model", "llama")
	f.set("tokenizer.ggml.tokens", tokens)
	f.set("tokenizer.ggml.scores", make([]float32, vocabulary))
	f.set("tokenizer.ggml.token_type", kinds)
	f.set("tokenizer.ggml.unknown_token_id", uint32(unknown))
	f.set("tokenizer.ggml.bos_token_id", uint32(begin))
	f.set("tokenizer.ggml.eos_token_id", uint32(end))
	f.set("tokenizer.ggml.add_space_prefix", false)
	f.set("tokenizer.chat_template", template)
}

// Adapter writes a LoRA for any Model: with it the model says something else.
func Adapter(seed uint64) []byte {
	n := numbers(seed*2 + 1)
	f := new(file)
	f.set("general.type", "adapter")
	f.set("general.architecture", "llama")
	f.set("general.name", fmt.Sprintf("adapter-%d", seed))
	f.set("adapter.type", "lora")
	f.set("adapter.lora.alpha", float32(16*rank))
	f.tensor("blk.0.ffn_down.weight.lora_a", n.next, inner, rank)
	f.tensor("blk.0.ffn_down.weight.lora_b", n.next, rank, width)
	return f.bytes()
}
