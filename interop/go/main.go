// Command interop plays every scene against a real hub and prints which of them passed.
//
// `cargo xtask interop go` calls it and knows where everything is. It exits 1 if a scene failed, or if SCENES.md lists other
// scenes than there are here.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Most scenes wait for a timer or for the other side, so more of them run at a time than there are cores.
const atATime = 8

// The head of this program's list in SCENES.md.
const listHead = "## A peer reads and publishes"

// A scene returns what is shown beside it, and fails by a panic.
type scene func(*stage) string

type listedScene struct {
	name, meaning string
	play          scene
}

func main() {
	binary := flag.String("binary", "", "the galaxy-push binary")
	list := flag.String("scenes", "", "the list of scenes, SCENES.md")
	work := flag.String("work", "", "where logs go")
	only := flag.String("only", "", "only scenes whose name contains this")
	following := flag.String("follow", "", "be an old gateway with this id, which follows the -hubs until it is killed")
	hubs := flag.String("hubs", "", "the hubs to follow, separated by commas")
	flag.Parse()
	if *following != "" {
		follow(*following, *hubs)
	}

	chosen, err := paired(*list)
	if err == nil {
		err = os.MkdirAll(*work, 0o755)
	}
	chosen = slices.DeleteFunc(chosen, func(each listedScene) bool { return !strings.Contains(each.name, *only) })
	if err == nil && len(chosen) == 0 {
		err = fmt.Errorf("no scene is called %q", *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	start := time.Now()
	passed := playAll(chosen, *binary, *work)
	fmt.Printf("%d of %d scenes passed in %.1f s\n", passed, len(chosen), time.Since(start).Seconds())
	if passed < len(chosen) {
		os.Exit(1)
	}
}

// paired finds this program's scenes in the order of the list.
func paired(list string) ([]listedScene, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	here := map[string]scene{}
	for _, each := range []map[string]scene{reading, lines, fencing, calls, publishing, readers, around} {
		for name, play := range each {
			here[name] = play
		}
	}
	_, rows, _ := strings.Cut(string(text), listHead)
	rows, _, _ = strings.Cut(rows, "\n## ")
	var found []listedScene
	for row := range strings.Lines(rows) {
		cells := strings.SplitN(strings.Trim(row, "| \n"), "|", 2)
		if len(cells) < 2 || !strings.HasPrefix(row, "| ") || strings.HasPrefix(row, "| scene ") {
			continue
		}
		each := listedScene{name: strings.TrimSpace(cells[0]), meaning: strings.TrimSpace(cells[1])}
		each.play = here[each.name]
		if each.play == nil {
			return nil, fmt.Errorf("SCENES.md lists %s, which this program does not play", each.name)
		}
		delete(here, each.name)
		found = append(found, each)
	}
	for name := range here {
		return nil, fmt.Errorf("this program plays %s, which SCENES.md does not list", name)
	}
	return found, nil
}

func playAll(chosen []listedScene, binary, work string) int {
	width := 0
	waiting := make(chan listedScene, len(chosen))
	for _, each := range chosen {
		width = max(width, len(each.name))
		waiting <- each
	}
	close(waiting)
	var passed atomic.Int32
	var players sync.WaitGroup
	for range atATime {
		players.Go(func() {
			for each := range waiting {
				if playOne(each, width, newStage(binary, filepath.Join(work, each.name+".log"))) {
					passed.Add(1)
				}
			}
		})
	}
	players.Wait()
	return int(passed.Load())
}

// playOne plays one scene on a stage of its own and prints its line.
func playOne(each listedScene, width int, stage *stage) bool {
	start := time.Now()
	outcome, shown, trouble := "pass", each.meaning, ""
	func() {
		defer stage.close()
		defer func() {
			if failure := recover(); failure != nil {
				outcome = "FAIL"
				trouble = fmt.Sprintf("%v\n%sthe hub's log is %s\n", failure, places(), stage.log)
			}
		}()
		if note := each.play(stage); note != "" {
			shown += " [" + note + "]"
		}
	}()
	fmt.Printf("%s%s  %-*s  %5.2f s  %s\n", trouble, outcome, width, each.name, time.Since(start).Seconds(), shown)
	return outcome == "pass"
}

// places are the lines of this program on the stack of a panic.
func places() string {
	places := ""
	for line := range strings.Lines(string(debug.Stack())) {
		if strings.Contains(line, "interop/go/") {
			places += line
		}
	}
	return places
}
