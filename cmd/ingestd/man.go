package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd writes the manual pages, which the package brings.
func (a *app) manCmd(root *cobra.Command) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "man --dir DIR", Short: "Write a manual page for each command", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usage(fmt.Errorf("--dir is needed: the folder for the pages"))
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true // the same source gives the same pages
			return doc.GenManTree(root, &doc.GenManHeader{Title: "INGESTD", Section: "1", Source: "ingestd", Manual: "ingestd"}, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`DIR` for the pages; it is made")
	return cmd
}
