import { Component, type ReactNode } from "react";
import { Failed } from "./state";

/** A page that breaks says so in its place; the frame around it stays usable. */
export class Boundary extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    return this.state.error ? <Failed what="this page" error={this.state.error} /> : this.props.children;
  }
}
