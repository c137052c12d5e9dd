package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"
)

// asker gets the answers of ingestd setup: from a person, from lines of a pipe, or
// from a file. It never waits for an answer that can't come.
type asker struct {
	out     io.Writer
	in      *bufio.Reader
	secret  int               // descriptor of the terminal that in reads, -1: it is none
	answers map[string]string // nil: ask
	used    map[string]bool   // of answers
	chinese bool
}

// question has a name, which a file of answers knows it by, and words in two languages.
type question struct {
	name     string
	zh, en   string
	initial  string             // what an empty answer stands for
	required bool               // an empty answer is none
	choices  []string           // empty: anything
	check    func(string) error // nil: nothing is checked
}

func (a *app) newAsker(answersFile string) (*asker, error) {
	q := &asker{out: a.err, in: bufio.NewReader(os.Stdin), secret: -1, used: map[string]bool{}}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		q.secret = int(os.Stdin.Fd())
	}
	if answersFile == "" {
		return q, nil
	}
	text, err := os.ReadFile(answersFile)
	if err != nil {
		return nil, fmt.Errorf("answers: %w", err)
	}
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(text, &nodes); err != nil {
		return nil, usage(fmt.Errorf("answers %s: one NAME: ANSWER a line: %w", answersFile, err))
	}
	q.answers = map[string]string{}
	for name, node := range nodes {
		if node.Kind != yaml.ScalarNode { // as it is written: 0412 stays 0412
			return nil, usage(fmt.Errorf("answers %s, line %d: the answer to %s is not one line of text", answersFile, node.Line, name))
		}
		q.answers[name] = node.Value
	}
	return q, nil
}

// say prints words in the language that was chosen.
func (q *asker) say(zh, en string) {
	if q.chinese {
		en = zh
	}
	fmt.Fprintln(q.out, en)
}

// ask asks until the answer is one.
func (q *asker) ask(what question) (string, error) {
	if q.answers != nil {
		return q.fromFile(what)
	}
	for {
		words := what.en
		if q.chinese {
			words = what.zh
		}
		if len(what.choices) > 0 {
			words += " (" + strings.Join(what.choices, ", ") + ")"
		}
		if what.initial != "" {
			words += " [" + what.initial + "]"
		}
		fmt.Fprint(q.out, words+": ")
		line, err := q.in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return "", fmt.Errorf("the input ended at the question %s", what.name)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the answer to %s: %w", what.name, err)
		}
		answer, err := what.accept(strings.TrimSpace(line))
		if err == nil {
			return answer, nil
		}
		fmt.Fprintln(q.out, "  ✗", tame(err.Error()))
	}
}

func (q *asker) fromFile(what question) (string, error) {
	given, there := q.answers[what.name]
	q.used[what.name] = true
	if !there && what.required && what.initial == "" {
		return "", usage(fmt.Errorf("the answers have none to %s: %s", what.name, what.en))
	}
	answer, err := what.accept(strings.TrimSpace(given))
	if err != nil {
		return "", usage(fmt.Errorf("the answer to %s: %w", what.name, err))
	}
	return answer, nil
}

func (what question) accept(answer string) (string, error) {
	if answer == "" {
		answer = what.initial
	}
	switch {
	case answer == "" && what.required:
		return "", errors.New("an answer is needed")
	case len(what.choices) > 0 && !slices.Contains(what.choices, answer):
		return "", fmt.Errorf("%q is none of %s", answer, strings.Join(what.choices, ", "))
	case what.check != nil && answer != "":
		return answer, what.check(answer)
	}
	return answer, nil
}

// yes asks for a yes; an empty answer is initial.
func (q *asker) yes(name, zh, en string, initial bool) (bool, error) {
	what := question{name: name, zh: zh, en: en, initial: "no", choices: []string{"yes", "no"}}
	if initial {
		what.initial = "yes"
	}
	answer, err := q.ask(what)
	return answer == "yes", err
}

// askSecret asks for what is not to be seen on the screen.
func (q *asker) askSecret(what question) (string, error) {
	if q.answers != nil {
		return "", usage(fmt.Errorf("%s is not to be in a file of answers: name a file that holds it", what.name))
	}
	if q.secret < 0 {
		return q.ask(what)
	}
	words := what.en
	if q.chinese {
		words = what.zh
	}
	fmt.Fprint(q.out, words+": ")
	secret, err := term.ReadPassword(q.secret)
	fmt.Fprintln(q.out)
	if err != nil {
		return "", fmt.Errorf("read the answer to %s: %w", what.name, err)
	}
	return what.accept(strings.TrimSpace(string(secret)))
}

// unused is an answer that no question asked for: a slip in the file.
func (q *asker) unused() error {
	var names []string
	for name := range q.answers {
		if !q.used[name] {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return usage(fmt.Errorf("the answers have what was not asked for: %s", strings.Join(names, ", ")))
}
