// Writes an Alloy configuration as `alloy fmt` would, or says what is wrong with its syntax:
//
//	alloy-syntax FILE
//
// It is Alloy's own parser; which arguments a component takes it does not know.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/printer"
)

func main() {
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(name, text)
	if err != nil {
		return err
	}
	if err := printer.Fprint(os.Stdout, file); err != nil {
		return err
	}
	fmt.Println()
	return nil
}
