// What every test of a page wants: no error on the console, nothing wider than the screen, and a picture.
import { mkdirSync } from "node:fs";
import { expect, type Page } from "@playwright/test";

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1440, height: 900 };

const SHOTS = process.env.SHOTS ?? "shots";

/** Collects console errors and page crashes; `allowed` are failures that a test provokes. */
export function watchErrors(page: Page, allowed: RegExp[] = []): string[] {
  const errors: string[] = [];
  page.on("console", (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (message.type() === "error" && !allowed.some((one) => one.test(text))) errors.push(text);
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  return errors;
}

/** Asks until it holds: after a change of the viewport charts take their new width a few frames later. */
export async function expectNoOverflow(page: Page): Promise<void> {
  const wide = () =>
    page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width + 1) return "";
      // Name what sticks out; what scrolls or is cut inside its own box does not.
      const clipped = (node: Element | null): boolean =>
        node !== null && node !== document.body && (getComputedStyle(node).overflowX !== "visible" || clipped(node.parentElement));
      const out = [...document.body.querySelectorAll("*")].filter(
        (node) => node.getBoundingClientRect().right > width + 1 && !clipped(node.parentElement),
      );
      const names = out.map((node) => `${node.tagName}.${node.className}`).slice(0, 5);
      return `${document.documentElement.scrollWidth} > ${width}: ${names.join(", ")}`;
    });
  await expect.poll(wide, { message: `${page.url()} is wider than the screen`, timeout: 5000 }).toBe("");
}

export async function shot(page: Page, name: string): Promise<void> {
  mkdirSync(SHOTS, { recursive: true });
  // Charts and the map settle within two frames after their data.
  await page.waitForTimeout(400);
  await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: false });
}

export async function setScheme(page: Page, scheme: "light" | "dark"): Promise<void> {
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
}
