"""Drives a headless Chromium over its DevTools pipe: python3 browse.py CHROMIUM PAGE < steps.json > results.json

A step is one of {"eval": expression}, {"key": name}, {"type": text}, {"hover": selector}, {"click": selector}, {"size": [width, height]},
{"media": {"scheme": "dark", "type": "print"}}, {"screenshot": path, "full": true}, {"pdf": path}, {"until": expression}, {"reload": true}.
The results are the values of the steps, in order, and the page's console messages, exceptions and requests.
The script needs only Python's standard library.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

# Timeout, in seconds, for work that the page does by itself.
PATIENCE = 60
KEYS = {"Escape": 27, "Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}


class Browser:
    def __init__(self, program):
        self.folder = tempfile.mkdtemp(prefix="quarry-browser-")
        to_child, self.out = os.pipe()
        self.inward, from_child = os.pipe()

        def pipes():
            # The browser reads from descriptor 3 and writes to descriptor 4.
            read, write = os.dup(to_child), os.dup(from_child)
            os.dup2(read, 3)
            os.dup2(write, 4)

        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                     "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-dev-shm-usage", "--font-render-hinting=none", f"--user-data-dir={self.folder}", "about:blank"]
        self.process = subprocess.Popen(arguments, preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.console, self.exceptions, self.requests, self.loaded = [], [], [], 0
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def read(self):
        while b"\0" not in self.buffer:
            part = os.read(self.inward, 1 << 16)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        method, values = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one.get("description"))) for one in values["args"]))
        elif method == "Log.entryAdded":
            self.console.append(f"{values['entry']['level']}: {values['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.exceptions.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"][:200])
        elif method == "Page.loadEventFired":
            self.loaded += 1
        return message

    def open(self, url):
        before = self.loaded
        self.call("Page.navigate", url=url)
        while self.loaded == before:
            self.read()

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def press(self, key):
        letter = key if len(key) == 1 else ""
        code = KEYS.get(key, ord(key.upper()) if letter else 0)
        values = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if key.isupper() and letter or key == "?" else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=letter, **values)
        self.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def point(self, selector):
        # Content above can still change its height: the position counts once it is the same for two frames.
        place = self.evaluate(
            f"(async () => {{ const element = document.querySelector({json.dumps(selector)}); let last = '';"
            " for (let same = 0; same < 2; ) { element.scrollIntoView({block: 'center', behavior: 'instant'});"
            " await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
            " const box = element.getClientRects()[0]; const place = [box.left + box.width / 2, box.top + box.height / 2];"
            " same = String(place) === last ? same + 1 : 0; last = String(place); }"
            " return last.split(',').map(Number); })()")
        return {"x": place[0], "y": place[1]}

    def step(self, step):
        if "eval" in step:
            return self.evaluate(step["eval"])
        if "key" in step:
            self.press(step["key"])
        if "type" in step:
            for letter in step["type"]:
                self.call("Input.insertText", text=letter)
        if "hover" in step:
            self.call("Input.dispatchMouseEvent", type="mouseMoved", **self.point(step["hover"]))
        if "click" in step:
            place = self.point(step["click"])
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
        if "size" in step:
            width, height = step["size"]
            self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=step.get("scale", 1), mobile=step.get("mobile", False))
        if "media" in step:
            features = [{"name": "prefers-color-scheme", "value": step["media"].get("scheme", "light")}]
            self.call("Emulation.setEmulatedMedia", media=step["media"].get("type", ""), features=features)
        if "screenshot" in step:
            image = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=step.get("full", False))
            with open(step["screenshot"], "wb") as file:
                file.write(base64.b64decode(image["data"]))
        if "pdf" in step:
            paper = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)
            with open(step["pdf"], "wb") as file:
                file.write(base64.b64decode(paper["data"]))
        if "until" in step:
            deadline = time.monotonic() + PATIENCE
            while not self.evaluate(step["until"]):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"timed out waiting until {step['until']}")
                time.sleep(0.01)
        if "reload" in step:
            before = self.loaded
            self.call("Page.reload")
            while self.loaded == before:
                self.read()
        return None

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    program, page = sys.argv[1:3]
    browser = Browser(program)
    try:
        browser.open("file://" + os.path.abspath(page))
        values = [browser.step(step) for step in json.load(sys.stdin)]
        browser.evaluate("1")
        json.dump({"values": values, "console": browser.console, "exceptions": browser.exceptions, "requests": browser.requests}, sys.stdout)
    finally:
        browser.close()


main()
