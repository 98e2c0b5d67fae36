// Command hello is the agent of a test of `omega dev`: it says a word and waits.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	word, err := os.ReadFile("/word")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("the word is %s\n", word)
	time.Sleep(time.Hour)
}
